// The versions of an agent: when each was made, how it differs from now, and the way back to it.
import { h } from './dom.js';
import { forget, path, restore, unsaved } from './agentsio.js';
import { call } from './http.js';

const SHOWN = 12; // lines of a long text

export function versionsPanel({ id, say, restored }) {
  const list = h('ol', { class: 'versions', 'aria-label': 'Versions' });
  const node = h('section', { class: 'pane past', 'aria-label': 'Versions' }, list);

  async function look() {
    try {
      list.replaceChildren(...(await call('GET', `${path(id)}/versions`)).map(item));
    } catch (problem) { list.replaceChildren(h('li', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`)); }
  }

  function item(each) {
    return h('li', {},
      h('div', { class: 'top' }, h('b', {}, `Version ${each.version}`), h('small', {}, each.current ? `now, since ${when(each.at)}` : when(each.at)),
        each.current || !each.changes.length ? null : h('button', { type: 'button', class: 'button small', 'aria-label': `Restore version ${each.version}`, onclick: (event) => ask(event.currentTarget, each) }, 'Restore')),
      each.current ? null : each.changes.length ? h('dl', {}, each.changes.map(change)) : h('p', { class: 'said' }, 'The same as now.'));
  }

  function change({ field, words, then, now }) {
    return h('div', {}, h('dt', {}, field), h('dd', {}, words, side('Then', '−', then), side('Now', '+', now)));
  }

  function side(label, sign, lines) {
    if (!lines.length) return null;
    const more = lines.length - SHOWN;
    return h('ul', { class: label.toLowerCase(), 'aria-label': label }, lines.slice(0, SHOWN).map((line) => h('li', {}, h('span', { 'aria-hidden': 'true' }, sign), line || ' ')),
      more > 0 ? h('li', {}, `and ${more} more`) : null);
  }

  function ask(button, each) {
    if (!unsaved(id)) { back(button, each); return; }
    say('There are changes that are not saved.', { label: 'Discard them and restore', act: () => { forget(id); back(button, each); } });
  }

  async function back(button, each) {
    button.disabled = true;
    try {
      restored(await restore(id, each.version), each.version);
    } catch (problem) { say(problem); button.disabled = false; }
  }

  return { node, look };
}

const when = (at) => (at ? new Date(at * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' }) : '');
