// Short notes in the corner. Failures stay until they are dismissed; the same one is not stacked.
import { h, iconButton } from './dom.js';

let shelf = null;
const shown = new Map();

export function toast(text, { hint = '', kind = 'done', action = null, lasting = kind === 'failed' ? 0 : 4000 } = {}) {
  if (!shelf) {
    shelf = h('section', { class: 'toasts', 'aria-label': 'Notes' });
    document.addEventListener('close', ({ target }) => { if (target === shelf.parentElement) document.body.append(shelf); }, true);
  }
  // Behind an open dialog nobody could press Undo.
  const host = [...document.querySelectorAll('dialog:modal')].at(-1) ?? document.body;
  if (shelf.parentElement !== host) host.append(shelf);
  shown.get(text)?.();
  const close = () => { node.remove(); shown.delete(text); clearTimeout(timer); };
  const node = h('div', { class: `toast ${kind}`, role: kind === 'failed' ? 'alert' : 'status' },
    h('div', {}, h('p', {}, text), hint ? h('p', { class: 'hint' }, hint) : null),
    action ? h('button', { type: 'button', class: 'button small', onclick: () => { close(); action.act(); } }, action.label) : null,
    iconButton('close', 'Dismiss', close));
  const timer = lasting ? setTimeout(close, lasting) : 0;
  shown.set(text, close);
  shelf.append(node);
  return close;
}

export const fail = (problem, options = {}) => toast(problem.message, { hint: problem.hint, kind: 'failed', ...options });
