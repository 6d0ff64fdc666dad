// Short notes in the corner, in narrow windows below the header. Failures stay until they are dismissed; the same one is not stacked.
import { $, h, iconButton } from './dom.js';

let shelf = null;
const shown = new Map();

export function toast(text, { hint = '', kind = 'done', action = null, lasting = kind === 'failed' ? 0 : 4000 } = {}) {
  if (!shelf) {
    shelf = h('section', { class: 'toasts', 'aria-label': 'Notes' });
    document.addEventListener('close', ({ target }) => { if (target === shelf.parentElement) moveTo(document.body); }, true);
    addEventListener('resize', place);
    const watcher = new ResizeObserver(place);
    for (const each of [shelf, $('#topbar')]) if (each) watcher.observe(each);
  }
  // Behind an open dialog nobody could press Undo.
  const host = [...document.querySelectorAll('dialog:modal')].at(-1) ?? document.body;
  if (shelf.parentElement !== host) moveTo(host);
  shown.get(text)?.();
  const close = () => { node.remove(); shown.delete(text); clearTimeout(timer); };
  const node = h('div', { class: `toast ${kind}`, 'data-stays': !lasting, role: kind === 'failed' ? 'alert' : 'status' },
    h('div', {}, h('p', {}, text), hint ? h('p', { class: 'hint' }, hint) : null),
    action ? h('button', { type: 'button', class: 'button small', onclick: () => { close(); action.act(); } }, action.label) : null,
    iconButton('close', 'Dismiss', close));
  const timer = lasting ? setTimeout(close, lasting) : 0;
  shown.set(text, close);
  shelf.append(node);
  place();
  return close;
}

function moveTo(host) {
  shelf.parentElement?.removeAttribute('data-notes');
  host.append(shelf);
  place();
}

// In narrow windows the notes stand where the header ends, and what lies below makes room for those that stay:
// nothing that waits for an answer is covered.
function place() {
  const host = shelf.parentElement;
  const head = $(host === document.body ? '#topbar' : '.head', host);
  const top = head?.getBoundingClientRect().bottom ?? 0;
  shelf.style.setProperty('--notes-top', `${Math.round(top)}px`);
  host.style.setProperty('--notes-room', `${shelf.offsetHeight + 16}px`);
  host.toggleAttribute('data-notes', Boolean($('[data-stays]', shelf)));
}

export const fail = (problem, options = {}) => toast(problem.message, { hint: problem.hint, kind: 'failed', ...options });
