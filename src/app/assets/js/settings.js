// The settings dialog: its sections, what was just changed, and what is wrong with the file.
import { $, $$, h, iconButton, setText } from './dom.js';
import { aboutPanel } from './settingsabout.js';
import { agentsPanel, modelsPanel, startPanel } from './settingsforms.js';
import { read, takeBack, told } from './settingsio.js';
import { providersPanel } from './settingsproviders.js';

const EVERY = 3000;
const SOON = 700; // after a change, when a server is looked at for the first time
const SECTIONS = [['providers', 'Providers', providersPanel], ['models', 'Models', modelsPanel], ['start', 'Start and memory', startPanel], ['agents', 'Agents and tools', agentsPanel], ['about', 'About', aboutPanel]];
let dialog = null;
let timer = 0;
let panels = {};
let hurry = 0;

export function startSettings() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=settings]')) openSettings(); });
}

export function openSettings() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(build(() => leave(own)));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) leave(own); });
  own.addEventListener('cancel', (event) => { if (unsaved()) { event.preventDefault(); leave(own); } });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    own.remove();
    dialog = null;
    panels = {};
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  $('[role=tab]', own).focus();
  look(own);
}

function build(shut) {
  return h('dialog', { class: 'sheet settings', 'aria-labelledby': 'settings-title' },
    h('div', { class: 'head' }, h('h2', { id: 'settings-title' }, 'Settings'), iconButton('close', 'Close', shut)),
    h('div', { class: 'file-problem', role: 'alert', hidden: true }, h('p'), h('p', { class: 'hint' })),
    h('div', { class: 'body' },
      h('div', { role: 'tablist', 'aria-label': 'Sections', 'aria-orientation': 'vertical', onkeydown: turn },
        SECTIONS.map(([key, words], index) => h('button', { type: 'button', role: 'tab', id: `tab-${key}`, 'aria-controls': `panel-${key}`, 'aria-selected': String(!index), tabindex: index ? -1 : 0, onclick: () => choose(key) }, words))),
      SECTIONS.map(([key], index) => h('div', { role: 'tabpanel', id: `panel-${key}`, 'aria-labelledby': `tab-${key}`, hidden: index > 0 }, h('p', { class: 'said' }, 'Looking…')))),
    h('div', { class: 'news', role: 'status' }));
}

function choose(key) {
  for (const tab of $$('[role=tab]', dialog)) {
    const chosen = tab.id === `tab-${key}`;
    tab.setAttribute('aria-selected', String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    if (chosen) tab.focus();
  }
  for (const panel of $$('[role=tabpanel]', dialog)) panel.hidden = panel.id !== `panel-${key}`;
}

function turn(event) {
  const tabs = $$('[role=tab]', dialog);
  const at = tabs.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowRight: at + 1, ArrowUp: at - 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  choose(tabs[(to + tabs.length) % tabs.length].id.slice(4));
}

async function look(own) {
  clearTimeout(timer);
  if (!document.hidden || !told.view) {
    try {
      await read();
      if (own === dialog) paint();
    } catch (problem) {
      if (own === dialog && !Object.keys(panels).length) setText($('.said', own), `${problem.message} ${problem.hint}`);
    }
  }
  hurry -= 1;
  if (own === dialog) timer = setTimeout(() => look(own), hurry > 0 ? SOON : EVERY);
}

function paint() {
  const wrong = told.view.problem;
  const box = $('.file-problem', dialog);
  box.hidden = !wrong;
  setText($('p', box), wrong ? `The file has a mistake, so what it said before counts. ${wrong.message}` : '');
  setText($('.hint', box), wrong?.hint ?? '');
  for (const [key, , make] of SECTIONS) {
    if (panels[key]) { panels[key].paint(); continue; }
    panels[key] = make({ saved, say });
    $(`#panel-${key}`, dialog).replaceChildren(panels[key].node);
  }
}

// After a change: all sections as they are now, and the way back.
function saved(words, undo) {
  if (!dialog) return;
  paint();
  say(words, undo ? { label: 'Undo', act: () => back(undo) } : null);
  hurry = 6;
  look(dialog);
}

async function back(word) {
  try {
    await takeBack(word);
    saved('Taken back.', null);
  } catch (problem) { say(`${problem.message} ${problem.hint}`); }
}

function say(words, ...actions) {
  if (!dialog) return;
  const buttons = actions.filter(Boolean).map(({ label, act }) => h('button', { type: 'button', class: 'button small', onclick: act }, label));
  $('.news', dialog).replaceChildren(...(words ? [h('span', {}, words), ...buttons] : []));
}

const unsaved = () => Object.entries(panels).find(([, panel]) => panel.dirty?.());

function leave(own) {
  const found = unsaved();
  if (!found) { own.close(); return; }
  choose(found[0]);
  say('There are changes that are not saved.', { label: 'Discard them', act: () => own.close() }, { label: 'Save', act: () => found[1].save() });
  $('.news button', own).focus();
}
