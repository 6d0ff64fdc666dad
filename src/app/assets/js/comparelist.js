// Earlier comparisons: found again, and deleted with a way back.
import { $, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { agentName, state } from './store.js';

const LISTED = 100;

export function comparisonList(side, { choose, gone }) {
  const search = h('input', { type: 'search', 'aria-label': 'Search comparisons', placeholder: 'Search', oninput: () => { clearTimeout(timer); timer = setTimeout(reload, 180); } });
  const news = h('div', { class: 'news', role: 'status' });
  const items = h('ul', { class: 'list' }, h('li', { class: 'note' }, 'Looking them up…'));
  side.replaceChildren(h('div', { class: 'make' }, search), news, items);
  let timer = 0;
  let asked = 0;
  let found = [];
  let current = null;

  async function reload() {
    const number = ++asked;
    try {
      const page = await call('GET', `comparisons?limit=${LISTED}&q=${encodeURIComponent(search.value.trim())}`);
      if (number !== asked) return;
      found = page.comparisons;
      paint();
    } catch (problem) {
      if (number === asked) items.replaceChildren(h('li', { class: 'note' }, `${problem.message} ${problem.hint ?? ''}`));
    }
  }

  function paint() {
    const focused = document.activeElement?.closest?.('.side li')?.dataset.id;
    items.replaceChildren(...(found.length ? found.map(row) : [h('li', { class: 'note' }, search.value.trim() ? 'Nothing matches.' : 'Your comparisons appear here.')]));
    if (focused) $(`li[data-id="${focused}"] .open`, items)?.focus();
  }

  const row = (each) => h('li', { 'data-id': each.id },
    h('button', { type: 'button', class: 'open', 'aria-current': each.id === current ? 'true' : null, title: each.title, onclick: () => choose(each.id) },
      h('span', { class: 'title' }, each.title),
      h('small', {}, each.running ? h('b', {}, 'Answering · ') : null, who(each))),
    iconButton('trash', `Delete ${each.title}`, () => remove(each)));

  async function remove(each) {
    try {
      await call('DELETE', `comparisons/${encodeURIComponent(each.id)}`, undefined, { timeout: 60000 });
    } catch (problem) { setText(news, `${problem.message} ${problem.hint ?? ''}`); return; }
    found = found.filter((one) => one.id !== each.id);
    paint();
    if (current === each.id) gone(each.id);
    const undo = h('button', { type: 'button', class: 'button small', onclick: () => restore(each) }, 'Undo');
    news.replaceChildren(h('span', {}, `Deleted “${each.title}”.`), undo);
    undo.focus();
  }

  async function restore(each) {
    try {
      await call('POST', `comparisons/${encodeURIComponent(each.id)}/restore`);
      news.replaceChildren();
      await reload();
      $(`li[data-id="${each.id}"] .open`, items)?.focus();
    } catch (problem) { setText(news, `${problem.message} ${problem.hint ?? ''}`); }
  }

  function mark(id) { current = id; paint(); }

  return { reload, mark };
}

// The models; of one model the agents that differ.
function who(each) {
  const models = [...new Set(each.models.map(nameOf))];
  const agents = [...new Set(each.agents.map(agentName))];
  return (models.length > 1 || agents.length === 1 ? models : [...models, ...agents]).join(' · ');
}

const nameOf = (id) => state.models?.find((model) => model.full_name === id)?.name ?? (id === 'auto' ? 'Auto' : id?.split(/[:/]/).at(-1) ?? 'Usual model');
