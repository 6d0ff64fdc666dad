// Small hands for the DOM. Text always goes in as text.
export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

export function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) node.addEventListener(name.slice(2), value);
    else if (name === 'class') node.className = value;
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

export function iconButton(icon, label, act, more = {}) {
  return h('button', { type: 'button', class: 'icon-button', 'data-icon': icon, 'aria-label': label, title: label, onclick: act, ...more });
}

// Writes only what changed, so that a selection in the text survives.
export function setText(node, text) { if (node && node.textContent !== text) node.textContent = text; }

// Into the clipboard; `near` has the focus again afterwards.
export async function copyText(text, near) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not a secure address: the old way, inside an open dialog, since all else is inert then
    const area = h('textarea', { class: 'sr', 'aria-hidden': 'true' });
    area.value = text;
    (near.closest('dialog') ?? document.body).append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
    near.focus();
  }
}

export const kept = {
  get(name) { try { return localStorage.getItem(`desk.${name}`); } catch { return null; } },
  set(name, value) {
    try {
      if (value === null || value === '') localStorage.removeItem(`desk.${name}`);
      else localStorage.setItem(`desk.${name}`, value);
    } catch { /* full, or a private window */ }
  },
};

export function seconds(count) {
  if (count < 60) return `${Math.floor(count)} s`;
  return `${Math.floor(count / 60)} min ${Math.floor(count % 60)} s`;
}

// Memory, as machines are sold: GB here is 2**30.
export const gigabytes = (bytes) => (bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 2 ** 20))} MB`);

export const isPhone = () => matchMedia('(max-width: 860px)').matches;

// The element, as soon as it is there.
export const appear = (selector) => new Promise((resolve) => {
  const look = () => {
    const found = $(selector);
    if (!found) return false;
    watcher.disconnect();
    resolve(found);
    return true;
  };
  const watcher = new MutationObserver(look);
  if (!look()) watcher.observe(document.body, { childList: true, subtree: true });
});
