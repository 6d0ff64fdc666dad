// What broken-off downloads left on the disk, each with a button that deletes it when pressed twice.
import { h } from './dom.js';
import { call } from './http.js';

const SURE = 6000; // so long a first press counts

// Rows stay while nothing changes, so that a pressed button keeps its focus and its question.
export function paintLeft(place, left, again, say) {
  const key = JSON.stringify(left);
  if (place.dataset.key === key) return;
  place.dataset.key = key;
  const focused = place.contains(document.activeElement);
  place.replaceChildren(...left.map((each) => row(each, again, say)));
  if (focused) (place.querySelector('button') ?? place.closest('dialog').querySelector('input')).focus();
}

function row(each, again, say) {
  let sure = 0;
  const ask = (open) => {
    clearTimeout(sure);
    sure = open ? setTimeout(() => ask(false), SURE) : 0;
    button.textContent = open ? 'Really delete?' : 'Delete';
    button.setAttribute('aria-label', `${button.textContent} ${each.file}`);
  };
  const button = h('button', { type: 'button', class: 'button small', onblur: () => ask(false), onclick: async () => {
    if (!sure) { ask(true); return; }
    ask(false);
    button.disabled = true;
    try { await call('DELETE', `downloads/parts?name=${encodeURIComponent(each.name)}`); } catch (problem) { say(problem.message, problem.hint, true); }
    button.disabled = false;
    again();
  } });
  ask(false);
  return h('li', {}, h('span', { class: 'what' }, h('b', { title: each.name }, each.file), h('small', {}, each.words)), button);
}
