// The Compare view: one question, two to four columns side by side, each an agent and a model.
import { $, $$, h, iconButton, isPhone, kept, setText } from './dom.js';
import { call } from './http.js';
import { column, slotOf } from './comparecolumn.js';
import { draftColumns, remembered } from './comparedraft.js';
import { comparisonList } from './comparelist.js';
import { makeRoom } from './compareroom.js';
import { whoAnswers } from './comparewho.js';
import { show } from './conversation.js';
import { on, state, tell } from './store.js';

const HASTE = 600;
const CALM = 3000;
const ORDERS = [['', 'Automatic order'], ['one_by_one', 'One by one'], ['together', 'All at once']];
let dialog = null;
let shown = null;   // {id, columns, told} of the comparison on show
let draft = null;   // the form of a new one
let list = null;
let timer = 0;
let sending = false;
let away = false;    // whether the server did not answer the last time

export function startCompare() {
  document.addEventListener('click', (event) => { if (event.target.closest?.('[data-act=compare]')) openCompare(); });
  on('chat', paintNotice);
  on('models', () => { if (draft && !dialog.contains(document.activeElement?.closest('select'))) paintDraft(); });
  on('agents', paintWho);
  on('offline', () => { if (!state.offline && shown) { shown.columns.forEach((each) => each.refresh()); beat(); } });
  const linked = new URLSearchParams(location.search).get('compare');
  if (linked) whenKnown(() => openCompare(linked));
}

// Names of agents and models come with the first pulse.
function whenKnown(act) {
  if (state.agents) { act(); return; }
  let waits = true;
  on('agents', () => { if (waits) { waits = false; act(); } });
}

// A chat that is a column stands in no list, so what shows it says where it belongs.
function paintNotice() {
  const place = $('#notices .html-container') ?? $('#notices');
  if (!place) return;
  let notice = $('#compared');
  const id = state.chat?.comparison_id;
  if (!id) { notice?.remove(); return; }
  notice ??= place.appendChild(h('div', { class: 'notice', id: 'compared' }));
  notice.replaceChildren('This is a column of a comparison. ', h('button', { type: 'button', class: 'link', onclick: () => openCompare(id) }, 'Show the comparison'));
}

export async function openCompare(id = null) {
  if (dialog) { if (id) await choose(id); return; }
  const before = document.activeElement;
  const own = dialog = h('dialog', { class: 'sheet compare', 'aria-labelledby': 'compare-title' },
    h('div', { class: 'head' },
      iconButton('left', 'Earlier comparisons', toggleList, { class: 'icon-button lists' }),
      h('h2', { id: 'compare-title' }, 'Compare'),
      h('button', { type: 'button', class: 'button small fresh', 'data-icon': 'plus', title: 'New comparison', onclick: () => compose(shown?.told.columns) }, h('span', {}, 'New comparison')),
      iconButton('close', 'Close', () => own.close())),
    h('div', { class: 'body' },
      h('nav', { class: 'side', 'aria-label': 'Earlier comparisons' }),
      h('div', { class: 'one' },
        h('div', { class: 'tabs', role: 'group', 'aria-label': 'Column on show' }),
        h('div', { class: 'columns' }),
        h('p', { class: 'measured', role: 'status' }),
        composer())));
  // Within Gradio's own container, whose styles its parts need.
  ($('.gradio-container') ?? document.body).append(own);
  if (!isPhone() && kept.get('compare-list')) own.classList.add('with-list');
  list = comparisonList($('.side', own), { choose, gone });
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => {
    clearTimeout(timer);
    leave();
    link(null);
    own.remove();
    dialog = list = null;
    if (before?.isConnected) before.focus();
  });
  own.showModal();
  list.reload();
  if (!id) { compose(); return; }
  await choose(id);
  if (own === dialog && !isPhone()) box().focus();
}

function toggleList() {
  const now = dialog.classList.toggle('with-list');
  kept.set('compare-list', now ? '1' : null);
  if (now) list.reload();
}

function link(id) {
  const address = new URL(location.href);
  if (id) address.searchParams.set('compare', id); else address.searchParams.delete('compare');
  if (address.href !== location.href) history.replaceState(history.state, '', address);
}

function leave() {
  clearTimeout(timer);
  shown?.columns.forEach((each) => each.leave());
  shown = null;
  draft = null;
  state.compared = null;
}

// A new one

function compose(like = null) {
  leave();
  link(null);
  draft = draftColumns({ like: like ?? remembered(), changed: paintDraft });
  setText($('#compare-title', dialog), 'Compare');
  setText($('.measured', dialog), 'Columns on one machine are answered one by one, so that their figures can be compared.');
  paintDraft();
  list.mark(null);
  if (isPhone()) dialog.classList.remove('with-list');
  box().focus();
}

function paintDraft() {
  place(draft.nodes(), draft.names());
  paintComposer();
}

// One on show

async function choose(id) {
  const own = dialog;
  leave();
  if (isPhone()) own.classList.remove('with-list');
  try {
    const told = await call('GET', `comparisons/${encodeURIComponent(id)}`);
    if (own === dialog) await present(told);
  } catch (problem) {
    if (own !== dialog) return;
    compose();
    say(problem);
  }
}

async function present(told) {
  const own = dialog;
  const slots = await Promise.all(told.columns.map((each) => slotOf(each.number)));
  if (own !== dialog) return;
  leave();
  link(told.id);
  const columns = told.columns.map((each, index) => column(slots[index], each.number, {
    head: whoAnswers(each), acts: { stop: stopOne, again: (number) => ask({ columns: [number] }), keep }, changed: () => beat(), home: () => box().focus(),
  }));
  shown = { id: told.id, columns, told };
  state.compared = new Set(told.columns.map((each) => each.chat_id));
  place(columns.map((each) => each.node), told.columns.map((each) => each.tab));
  list.mark(told.id);
  take(told);
}

function take(told) {
  const ended = shown.told.running && !told.running;
  shown.told = told;
  setText($('#compare-title', dialog), told.title);
  setText($('.measured', dialog), told.note);
  told.columns.forEach((each, index) => shown.columns[index].update({ ...each, busy: told.running }));
  $$('.tabs button', dialog).forEach((tab, index) => {
    setText(tab, told.columns[index].tab);
    tab.toggleAttribute('data-asks', shown.columns[index].asks());
  });
  if (away) { away = false; say(null); }
  paintComposer();
  if (ended) list.reload();
  clearTimeout(timer);
  timer = setTimeout(beat, told.running ? HASTE : CALM);
}

async function beat() {
  clearTimeout(timer);
  const mine = shown;
  if (!mine) return;
  try {
    const told = await call('GET', `comparisons/${encodeURIComponent(mine.id)}`);
    if (mine === shown) take(told);
  } catch (problem) {
    if (mine !== shown) return;
    if (problem.code === 'comparison_not_found') { compose(); say(problem); return; }
    if (problem.offline) { away = true; say(problem); }
    timer = setTimeout(beat, CALM);
  }
}

// Agents are deleted, renamed and brought back while their columns are on show.
function paintWho() {
  if (!shown) return;
  $$('.whose', dialog).forEach((old, index) => {
    const was = old.dataset.agent;
    const now = whoAnswers(shown.told.columns[index], { ticked: $('input', old).checked || was === 'Deleted agent' });
    if (now.dataset.agent !== was) old.replaceWith(now);
  });
}

const asked = () => $$('.who input', dialog).map((each, index) => (each.checked && shown.told.columns[index].state !== 'gone' ? index + 1 : 0)).filter(Boolean);

function place(nodes, names) {
  const grid = $('.columns', dialog);
  grid.replaceChildren(...nodes);
  grid.dataset.count = nodes.length;
  const at = Math.min(Number(grid.dataset.at ?? 0), nodes.length - 1);
  $('.tabs', dialog).replaceChildren(...names.map((name, index) => h('button', { type: 'button', onclick: () => turnTo(index) }, name)));
  turnTo(at);
}

function turnTo(index) {
  const grid = $('.columns', dialog);
  grid.dataset.at = index;
  [...grid.children].forEach((node, at) => node.classList.toggle('at', at === index));
  $$('.tabs button', dialog).forEach((tab, at) => tab.setAttribute('aria-pressed', String(at === index)));
}

// The box

function composer() {
  return h('form', { class: 'ask', autocomplete: 'off', onsubmit: (event) => { event.preventDefault(); if (shown?.told.running) stopAll(); else send(); } },
    h('div', { class: 'problem', role: 'alert', hidden: true }),
    h('div', { class: 'composer' },
      h('textarea', { rows: 1, 'aria-label': 'Question for all columns', placeholder: 'Ask all columns…', enterkeyhint: 'send', oninput: () => { kept.set('compare-question', box().value); fit(); }, onkeydown: onKey }),
      iconButton('again', 'Ask the ticked columns again', () => ask({ columns: asked() }), { class: 'icon-button all-again', hidden: true }),
      h('select', { 'aria-label': 'Order', title: 'One by one, so that models on one machine do not slow each other down; or all at once' }, ORDERS.map(([value, words]) => h('option', { value }, words))),
      h('button', { type: 'submit', class: 'send', 'data-icon': 'send', 'aria-label': 'Ask', title: 'Ask (Enter)' })));
}

const box = () => $('.ask textarea', dialog);

function onKey(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  if (matchMedia('(pointer: coarse)').matches && !event.ctrlKey && !event.metaKey) return;
  event.preventDefault();
  if (!shown?.told.running) send();
}

function fit() {
  box().style.height = 'auto';
  box().style.height = `${Math.min(box().scrollHeight, 160)}px`;
}

function paintComposer() {
  const running = Boolean(shown?.told.running);
  const button = $('.ask .send', dialog);
  button.dataset.icon = running ? 'stop' : 'send';
  button.classList.toggle('stopping', running);
  button.setAttribute('aria-label', running ? 'Stop all' : 'Ask');
  button.title = running ? 'Stop all columns' : 'Ask (Enter)';
  button.disabled = sending;
  $('.all-again', dialog).hidden = !shown || running;
  box().placeholder = shown ? 'Ask the columns something more…' : 'Ask all columns…';
  if (!box().value && !shown) { box().value = kept.get('compare-question') ?? ''; fit(); }
}

async function send() {
  const content = box().value;
  if (!content.trim() || sending) return;
  const done = shown ? await ask({ content, columns: asked() }) : await begin(content);
  if (!done || !dialog) return;
  kept.set('compare-question', null);
  box().value = '';
  fit();
}

async function begin(content) {
  const columns = draft.columns();
  return work(async () => {
    if (!await makeRoom(columns)) return null;
    draft.remember();
    const told = await call('POST', 'comparisons', { content, columns, order: order() }, { timeout: 120000 });
    list?.reload();
    return told;
  }, present);
}

// A further question, or the last one again.
const ask = (body) => {
  if (body.columns && !body.columns.length) { say({ message: 'No column is to be asked.', hint: 'Tick one at its top.' }); return null; }
  return work(() => call('POST', `comparisons/${encodeURIComponent(shown.id)}/turns`, { ...body, order: order() }, { timeout: 120000 }), take);
};

const order = () => $('.ask select', dialog).value || null;

async function work(act, then) {
  const own = dialog;
  const mine = shown;
  say(null);
  sending = true;
  paintComposer();
  try {
    const told = await act();
    tell('hurry');
    if (told && own === dialog && mine === shown) await then(told);
    return told;
  } catch (problem) {
    if (own === dialog) say(problem);
    return null;
  } finally {
    sending = false;
    if (dialog) paintComposer();
  }
}

function say(problem) {
  const line = $('.ask .problem', dialog);
  line.hidden = !problem;
  setText(line, problem ? `${problem.message} ${problem.hint ?? ''}`.trim() : '');
}

// What is done with columns

const stopAll = () => work(() => call('POST', `comparisons/${encodeURIComponent(shown.id)}/stop`, {}, { timeout: 60000 }), take);
const stopOne = (number) => work(() => call('POST', `comparisons/${encodeURIComponent(shown.id)}/stop`, { column: number }, { timeout: 60000 }), take);

async function keep(number) {
  const { chat_id: chat, kept: already } = shown.told.columns[number - 1];
  if (!already && !await work(() => call('POST', `comparisons/${encodeURIComponent(shown.id)}/columns/${number}/keep`), take)) return;
  dialog?.close();
  show(chat);
  tell('turn');
}

function gone(id) { if (shown?.id === id) compose(); }
