// Shortcuts, drawers, the theme switch and the list of shortcuts.
import { $, h, iconButton, isPhone, kept } from './dom.js';
import { openAgents } from './agents.js';
import { newChat } from './chats.js';
import { openCompare } from './compare.js';
import { focusBox, stop } from './composer.js';
import { openLearned } from './learned.js';
import { openRecipes } from './recipes.js';
import { openRuns } from './runs.js';
import { openSettings } from './settings.js';
import { on, state, tell } from './store.js';
import { openToolServers } from './toolservers.js';

const root = document.documentElement;
const SHORTCUTS = [
  ['Enter', 'Send the message'],
  ['Shift Enter', 'New line'],
  ['Esc', 'Stop the answer, or close what is open'],
  ['Ctrl K', 'Search chats'],
  ['Alt N', 'New chat'],
  ['Alt A', 'Agents'],
  ['Alt L', 'What this machine learned'],
  ['Alt R', 'Runs'],
  ['Alt C', 'Recipes'],
  ['Alt P', 'Compare'],
  ['Alt T', 'Tools'],
  ['Ctrl ,', 'Settings'],
  ['Ctrl B', 'Show or hide the chats'],
  ['F2', 'Rename the chat in the list that has the focus'],
  ['/', 'Go to the message box'],
  ['?', 'This list'],
];
let dialog = null;

export function startKeys() {
  document.addEventListener('click', onClick);
  document.addEventListener('keydown', onKey);
  on('drawer', closeDrawers);
  paintTheme();
}

function onClick(event) {
  const act = event.target.closest?.('[data-act]')?.dataset.act;
  if (act === 'left' || act === 'right') toggle(act);
  else if (act === 'theme') { window.desk.theme.set(!window.desk.theme.dark()); paintTheme(); tell('theme'); }
  else if (act === 'keys') showKeys();
  else if (drawerOpen() && event.target.closest?.('#center, #veil')) closeDrawers();
}

function onKey(event) {
  if (event.isComposing || event.defaultPrevented || $('dialog[open]')) return;
  const command = event.ctrlKey || event.metaKey;
  const typing = /^(input|textarea|select)$/i.test(document.activeElement?.tagName ?? '');
  const handlers = [
    [command && event.code === 'KeyK', search],
    [command && event.key === ',', openSettings],
    [command && event.code === 'KeyB', () => toggle('left')],
    [event.altKey && !command && event.code === 'KeyN', newChat],
    [event.altKey && !command && event.code === 'KeyA', openAgents],
    [event.altKey && !command && event.code === 'KeyL', openLearned],
    [event.altKey && !command && event.code === 'KeyR', () => openRuns()],
    [event.altKey && !command && event.code === 'KeyC', openRecipes],
    [event.altKey && !command && event.code === 'KeyP', () => openCompare()],
    [event.altKey && !command && event.code === 'KeyT', openToolServers],
    [!typing && event.key === '?', showKeys],
    [!typing && event.key === '/', focusBox],
    [event.key === 'Escape', escape],
  ];
  const found = handlers.find(([matches]) => matches);
  if (!found) return;
  if (event.key !== 'Escape') event.preventDefault();
  found[1]();
}

function search() {
  if (isPhone()) root.classList.add('open-left');
  else { root.classList.remove('hide-left'); kept.set('hide-left', null); }
  $('#search').focus();
  $('#search').select();
}

function escape() {
  if (drawerOpen()) closeDrawers();
  else if ($('#topbar .options')) return;
  else if (state.live) stop();
}

const drawerOpen = () => root.classList.contains('open-left') || root.classList.contains('open-right');
function closeDrawers() { root.classList.remove('open-left', 'open-right'); }

function toggle(side) {
  const narrow = matchMedia(side === 'left' ? '(max-width: 860px)' : '(max-width: 1120px)').matches;
  if (narrow) {
    root.classList.remove(side === 'left' ? 'open-right' : 'open-left');
    root.classList.toggle(`open-${side}`);
  } else {
    root.classList.toggle(`hide-${side}`);
    kept.set(`hide-${side}`, root.classList.contains(`hide-${side}`) ? '1' : null);
  }
}

async function paintTheme() {
  await window.desk.part('tools');
  $('[data-act=theme]').setAttribute('aria-pressed', String(window.desk.theme.dark()));
}

function showKeys() {
  dialog ??= document.body.appendChild(h('dialog', { class: 'sheet keys', 'aria-labelledby': 'keys-title' },
    h('div', { class: 'head' }, h('h2', { id: 'keys-title' }, 'Keyboard shortcuts'), iconButton('close', 'Close', () => dialog.close())),
    h('dl', {}, SHORTCUTS.map(([keys, what]) => h('div', {}, h('dt', {}, keys.split(' ').map((key) => h('kbd', {}, key))), h('dd', {}, what))))));
  dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
  dialog.showModal();
}
