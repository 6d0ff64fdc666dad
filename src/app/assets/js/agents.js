// The agents dialog: the list, and beside it the form of one with its test chat or its versions.
import { $, $$, h, iconButton, isPhone, setText } from './dom.js';
import { agentForm } from './agentsform.js';
import { agentOf, copy, create, draftOf, forget, NEW, path, refresh, remove, restore, takeIn, unsaved } from './agentsio.js';
import { trial, sweep } from './agentstrial.js';
import { versionsPanel } from './agentsversions.js';
import { call } from './http.js';
import { state } from './store.js';

const MAX_FILE = 1_000_000;
let dialog = null;
let kit = null;
let shown = null; // {id, form, trial, versions}
let pending = null; // what was chosen before all was here to show it

export async function startAgents() {
  await window.desk.part('agents');
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=agents]')) openAgents(); });
  document.addEventListener('close', (event) => { if (shown && event.target.matches?.('.toolservers')) renew(); }, true);
}

// The Tools panel was open above: there may be other tools now.
async function renew() {
  try { kit = await call('GET', 'agents/kit'); } catch (problem) { say(problem); return; }
  if (!shown) return;
  choose(shown.id, { going: shown.trial });
  $('.servers select, .open-tools', dialog)?.focus();
}

export async function openAgents() {
  if (dialog) return;
  const before = document.activeElement;
  const own = document.body.appendChild(build(() => leave(own)));
  dialog = own;
  own.addEventListener('click', (event) => { if (event.target === own) leave(own); });
  own.addEventListener('cancel', (event) => { if (dirty()) { event.preventDefault(); leave(own); } });
  own.addEventListener('close', () => {
    shown?.trial.end();
    own.remove();
    dialog = null;
    shown = null;
    pending = null;
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  if (state.agents) paintList();
  $('[data-does=new]', own).focus();
  sweep();
  kit = null; // what tools there are may be otherwise now
  try {
    [kit] = await Promise.all([call('GET', 'agents/kit'), refresh()]);
  } catch (problem) { say(problem); return; }
  if (own !== dialog) return;
  paintList();
  if (pending) choose(...pending);
  else if (!isPhone()) choose(state.agent);
}

function build(shut) {
  const file = h('input', { type: 'file', class: 'sr', accept: '.json,application/json', tabindex: -1, 'aria-label': 'File of an agent', onchange: (event) => read(event.target) });
  return h('dialog', { class: 'sheet agents', 'aria-labelledby': 'agents-title' },
    h('div', { class: 'head' },
      h('button', { type: 'button', class: 'icon-button back', 'data-icon': 'before', 'aria-label': 'Back to the list', onclick: () => back() }),
      h('h2', { id: 'agents-title' }, 'Agents'), iconButton('close', 'Close', shut)),
    h('div', { class: 'body' },
      h('nav', { class: 'side', 'aria-label': 'All agents' },
        h('div', { class: 'make' },
          h('button', { type: 'button', class: 'button', 'data-does': 'new', onclick: () => choose(NEW, { focus: true }) }, 'New agent'),
          h('button', { type: 'button', class: 'button', onclick: () => file.click() }, 'Import'), file),
        h('div', { class: 'list', onkeydown: move })),
      h('div', { class: 'one' }, h('p', { class: 'said' }, 'Looking…'))),
    h('div', { class: 'news', role: 'status' }));
}

// The list

function paintList() {
  if (!dialog) return;
  const list = $('.list', dialog);
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : null;
  const group = (words, rows) => (rows.length ? [h('h3', {}, words), h('ul', { 'aria-label': words }, rows)] : []);
  const agents = state.agents ?? [];
  const own = agents.filter((agent) => !agent.builtin).map((agent) => row(agent.id, agent));
  if (shown?.id === NEW || unsaved(NEW)) own.push(row(NEW, null));
  list.replaceChildren(...group('Yours', own), ...group('Built in', agents.filter((agent) => agent.builtin).map((agent) => row(agent.id, agent))));
  if (focused) $$('button', list).find((each) => each.dataset.id === focused)?.focus();
}

function row(id, agent) {
  const draft = unsaved(id) ? draftOf(id).draft : agent ?? draftOf(id).draft;
  const current = shown?.id === id;
  return h('li', {}, h('button', { type: 'button', 'data-id': id, 'aria-current': current ? 'true' : null, onclick: () => choose(id, { focus: isPhone() }) },
    face(draft), h('span', { class: 'who' },
      h('b', {}, draft.name || 'New agent'),
      h('small', {}, draft.description || (agent ? 'No purpose given' : 'Not saved yet'))),
    unsaved(id) && agent ? h('span', { class: 'tag' }, 'Not saved') : null));
}

export const face = ({ picture, name }) => h('span', { class: picture ? 'face' : 'face letter', 'aria-hidden': 'true' }, picture || (name || '?').trim().slice(0, 1).toUpperCase());

function move(event) {
  const rows = $$('.list button', dialog);
  const at = rows.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
  if (to === undefined || at < 0) return;
  event.preventDefault();
  rows[(to + rows.length) % rows.length].focus();
}

// One agent

// `going` is a test chat that stays, since its agent has only got another name.
function choose(id, { focus = false, going = null } = {}) {
  if (!kit) { pending = [id, { focus }]; return; }
  say('');
  if (!going) shown?.trial.end();
  const agent = agentOf(id);
  if (!agent && id !== NEW) { shown = null; paintList(); return; }
  const test = going ?? trial({ id: () => agentOf(shown.id)?.id ?? null, draft: () => shown.form.draft(), model: () => shown.form.wanted(), reveal: () => { dialog.classList.add('has-one'); turnTo('trial'); } });
  const past = versionsPanel({ id, say, restored: (made) => after(made.id, `Version ${made.version} is like the one you picked.`) });
  const form = agentForm({ id, agent, kit, changed: paintList, saved, say, checked: test.checked, duplicate: () => duplicate(id), recent: () => choose(id) });
  shown = { id, form, trial: test, versions: past };
  dialog.classList.add('has-one');
  const pane = (key, words) => h('button', { type: 'button', 'data-pane': key, 'aria-pressed': 'false', onclick: () => turnTo(key) }, words);
  $('.one', dialog).replaceChildren(
    h('div', { class: 'bar' },
      h('div', { class: 'panes', role: 'group', 'aria-label': 'Show' }, pane('form', 'Form'), pane('trial', 'Test'), agent && !agent.builtin ? pane('versions', 'Versions') : null),
      agent ? acts(agent) : null),
    form.node, test.node, past.node);
  turnTo(isPhone() || innerWidth <= 1120 ? 'form' : 'trial');
  paintList();
  if (focus) (agent?.builtin || (agent && isPhone()) ? $('.panes button', dialog) : $('[data-key=name]', dialog)).focus();
}

function acts(agent) {
  return h('div', { class: 'acts' },
    h('button', { type: 'button', class: 'button small', 'data-icon': 'copy', 'aria-label': 'Duplicate', title: 'Duplicate', onclick: () => duplicate(agent.id) }, h('span', {}, 'Duplicate')),
    h('a', { class: 'button small', 'data-icon': 'export', 'aria-label': 'Export', title: 'Export', href: `./ui/${path(agent.id)}/export`, download: `${agent.id}.agent.json` }, h('span', {}, 'Export')),
    agent.builtin ? null : iconButton('trash', `Delete ${agent.name}`, (event) => erase(event.currentTarget, agent)));
}

function turnTo(key) {
  const place = $('.one', dialog);
  place.dataset.pane = key;
  for (const button of $$('.panes button', place)) button.setAttribute('aria-pressed', String(button.dataset.pane === key));
  if (key === 'versions') shown.versions.look();
}

function back() {
  dialog.classList.remove('has-one');
  const id = shown?.id;
  ($$('.list button', dialog).find((each) => each.dataset.id === id) ?? $('[data-does=new]', dialog)).focus();
}

// What becomes of it

function saved(made, words) {
  if (shown) forget(shown.id);
  after(made.id, words, { going: shown?.trial });
  $('[type=submit]', dialog)?.focus();
}

function after(id, words, { going = null, actions = [] } = {}) {
  if (!dialog) return;
  const pane = $('.one', dialog).dataset.pane;
  const focused = document.activeElement;
  choose(id, { going });
  if (['form', 'trial'].includes(pane) || (pane === 'versions' && $('[data-pane=versions]', dialog))) turnTo(pane);
  say(words, ...actions);
  if (!focused?.isConnected) ($('.news button', dialog) ?? $$('.list button', dialog).find((each) => each.dataset.id === id))?.focus();
}

async function duplicate(id) {
  try {
    // What is typed and not saved goes along.
    const made = unsaved(id) ? await create({ ...draftOf(id).draft, name: `${draftOf(id).draft.name || 'Agent'} copy`.slice(0, 80) }) : await copy(id);
    after(made.id, `${made.name} is yours to change.`);
    $('[data-key=name]', dialog)?.focus();
  } catch (problem) { say(problem); }
}

async function erase(button, agent) {
  button.disabled = true;
  try {
    await remove(agent.id);
    forget(agent.id);
    after(state.agents[0].id, `${agent.name} is deleted.`, { actions: [{ label: 'Undo', act: () => bringBack(agent) }] });
  } catch (problem) { say(problem); button.disabled = false; }
}

async function bringBack(agent) {
  try {
    const made = await restore(agent.id, agent.version);
    after(made.id, `${made.name} is back.`);
  } catch (problem) { say(problem); }
}

async function read(input) {
  const [file] = input.files;
  input.value = '';
  if (!file) return;
  if (file.size > MAX_FILE) { say('That file is too large to be an agent.'); return; }
  let content;
  try { content = JSON.parse(await file.text()); } catch { say(`${file.name} is not an agent: it is no JSON.`); return; }
  if (content?.format !== 'lmdesk.agent') { say(`${file.name} is not an agent of LM Desk.`); return; }
  try {
    const made = await takeIn(content);
    after(made.id, `${made.name} is here.`);
  } catch (problem) { say(problem); }
}

// Leaving

const dirty = () => Boolean(shown && shown.form.dirty());

function leave(own) {
  if (!dirty()) { own.close(); return; }
  say('There are changes that are not saved.',
    { label: 'Discard them', act: () => { forget(shown.id); own.close(); } },
    { label: 'Keep for later', act: () => own.close() },
    { label: 'Save', act: () => shown.form.save() });
  $('.news button:last-child', own).focus();
}

// A sentence, or a Problem, with what can be done about it.
function say(what, ...actions) {
  if (!dialog) return;
  const words = typeof what === 'string' ? what : `${what.message} ${what.hint ?? ''}`.trim();
  const buttons = actions.filter(Boolean).map(({ label, act }) => h('button', { type: 'button', class: 'button small', onclick: act }, label));
  const place = $('.news', dialog);
  place.replaceChildren(...(words ? [h('span', {}), ...buttons] : []));
  if (words) setText($('span', place), words);
}
