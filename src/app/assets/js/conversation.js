// The conversation: asks Gradio to show a chat, dresses its rows, and says where an answer is.
import { $, $$, appear, h, iconButton, seconds, setText } from './dom.js';
import { call } from './http.js';
import { agentNow, modelNow, on, state, tell } from './store.js';
import { fail, toast } from './toasts.js';
import { scrollToEnd } from './scroll.js';

let bridge = null;
let ended = null;

export async function startConversation() {
  ({ extra: bridge } = await window.desk.part('bridge'));
  await Promise.all(['welcome', 'phase', 'notices', 'facts', 'state'].map(window.desk.part));
  await appear('#live');
  window.desk.listen('facts', onFacts);
  window.desk.listen('state', onState);
  on('models', paintWelcome);
  on('picked', paintWelcome);
  on('agents', paintWelcome);
  on('live', paintPhase);
  on('offline', paintPhase);
  on('chat', () => { document.title = state.chat?.title ? `${state.chat.title} · LM Desk` : 'LM Desk'; });
  $('#earlier button').addEventListener('click', () => show(state.chatId, { everything: true, keepPlace: true }));
  setInterval(paintSeconds, 500);
  new MutationObserver(dress).observe(await appear('#hist'), { childList: true, subtree: true });
  addEventListener('popstate', () => show(linkedChat(), { push: false }));
}

export const linkedChat = () => new URLSearchParams(location.search).get('chat');

// Shows a chat (null: an empty one). The same chat again only refreshes it.
export function show(chatId, { push = true, everything = false, keepPlace = false } = {}) {
  const other = chatId !== state.chatId;
  state.view += 1;
  state.shownAt = Date.now();
  if (other) {
    Object.assign(state, { chatId, chat: null, rows: [], hidden: 0, everything: false, revision: 0, live: null, stopping: false });
    if (chatId === null) state.parameters = {};
    else skeletonSoon(state.view);
  }
  if (everything) state.everything = true;
  if (push) link(chatId);
  if (!keepPlace && other) scrollToEnd({ stick: true });
  bridge.show({ chat_id: chatId, view: state.view, everything: state.everything });
  if (other) { tell('chat'); tell('live'); paintWelcome(); }
}

function link(chatId) {
  const address = new URL(location.href);
  if (chatId) address.searchParams.set('chat', chatId); else address.searchParams.delete('chat');
  if (address.href !== location.href) history.pushState(null, '', address);
}

function skeletonSoon(view) {
  $('#hist').classList.add('leaving');
  setTimeout(() => { if (view === state.view && state.shownAt) $('#skeleton').hidden = false; }, 250);
}

function onFacts(facts) {
  if (!facts || facts.view !== state.view) return;
  state.shownAt = 0;
  $('#skeleton').hidden = true;
  $('#hist').classList.remove('leaving');
  if (facts.problem) { onProblem(facts); return; }
  if (facts.chat === null) { tell('chat'); paintWelcome(); return; }
  const firstTime = state.chat === null;
  const complete = state.live && !facts.job_id;
  Object.assign(state, {
    chat: facts.chat, rows: facts.rows, hidden: facts.hidden, revision: facts.revision, parameters: facts.chat.parameters ?? {},
  });
  if (facts.job_id) {
    bridge.follow({ job_id: facts.job_id, view: state.view });
    if (state.live?.job_id !== facts.job_id) state.live = { job_id: facts.job_id, phase: 'queued', words: 'Starting', since: Date.now() };
  } else {
    state.live = null;
    state.stopping = false;
    state.jobs = state.jobs.filter((job) => job.chat_id !== state.chatId);
  }
  if (firstTime) tell('opened');
  tell('chat');
  tell('live');
  if (complete) announce(howItEnded(facts.rows.at(-1)));
  paintWelcome();
  requestAnimationFrame(dress);
}

function onProblem(facts) {
  if (facts.problem.code === 'chat_not_found') {
    toast('That chat is not here any more.', { kind: 'failed', hint: 'It may have been deleted in another tab.' });
    show(null);
  } else if (facts.problem.code === 'server_unreachable') {
    state.live = null;
    tell('live');
    tell('lost');
  } else fail(facts.problem);
}

function onState(told) {
  if (!told || told.view !== state.view || !state.live || told.job_id !== state.live.job_id) return;
  if (told.problem) { onProblem(told); return; }
  if (told.ended) {
    // A chat that still calls it running is asked again, but not without a pause.
    if (told.job_id === ended) setTimeout(reattach, 500); else reattach();
    ended = told.job_id;
    return;
  }
  const was = state.live.phase;
  state.live = { ...told, since: Date.now() - told.age * 1000 };
  if (was !== told.phase) announce(told.words);
  tell('live');
}

function howItEnded(row) {
  return row?.problem?.message ?? row?.label ?? 'The answer is complete.';
}

function announce(words) { setText($('#announce'), words); }

// The line under the answer being written.

function paintPhase() {
  const line = $('#phase-line');
  if (!line) return;
  const live = state.live;
  // While it thinks, the open thought itself counts the seconds.
  const told = live?.phase === 'thinking' && !state.stopping && !state.offline && $('#live .thought-group');
  line.hidden = Boolean(told) || (!live && !state.sending);
  if (line.hidden) return;
  line.classList.toggle('writing', live?.phase === 'writing');
  const words = state.offline ? "Waiting for LM Desk's server" : state.stopping ? 'Stopping' : live?.words ?? 'Sending';
  setText($('.words', line), words);
  setText($('.speed', line), live?.speed && !state.offline ? `${live.speed} tok/s` : '');
  paintSeconds();
}

function paintSeconds() {
  const line = $('#phase-line');
  if (!line || line.hidden) return;
  const age = state.live && !state.offline ? (Date.now() - state.live.since) / 1000 : 0;
  setText($('.seconds', line), age >= 1 ? seconds(age) : '');
}

// What stands under each finished row.

function dress() {
  const history = $('#hist');
  const found = $$('.message-row', history);
  $('#earlier').hidden = !state.hidden;
  if (found.length !== state.rows.length) return;
  found.forEach((row, index) => {
    const facts = state.rows[index];
    const key = `${facts.id}|${facts.siblings.join()}|${facts.label ?? ''}|${index === found.length - 1}`;
    let foot = $(':scope > .foot', row);
    if (foot?.dataset.key === key) return;
    foot?.remove();
    foot = footer(facts, { last: index === found.length - 1 });
    foot.dataset.key = key;
    row.append(foot);
    row.dataset.message = facts.id;
    row.classList.toggle('empty-answer', Boolean(facts.empty));
  });
}

function footer(facts, { last }) {
  return facts.role === 'user' ? userFooter(facts) : answerFooter(facts, last);
}

function userFooter(facts) {
  return h('div', { class: 'foot' }, h('div', { class: 'actions' },
    versions(facts),
    iconButton('copy', 'Copy message', (event) => copy(event.currentTarget, facts.text)),
    iconButton('edit', 'Edit message', (event) => edit(event.currentTarget, facts))));
}

function answerFooter(facts, last) {
  const problem = facts.problem;
  return h('div', { class: 'foot' },
    problem ? h('div', { class: 'problem' }, h('div', {}, h('p', {}, problem.message), problem.hint ? h('p', { class: 'hint' }, problem.hint) : null),
      last ? h('button', { type: 'button', class: 'button small', onclick: () => again(facts) }, 'Retry') : null) : null,
    h('div', { class: 'line' },
      h('div', { class: 'actions' },
        versions(facts),
        facts.empty ? null : iconButton('copy', 'Copy answer', (event) => copy(event.currentTarget, facts.text)),
        last && !problem ? iconButton('again', 'Answer again', () => again(facts)) : null),
      h('p', { class: 'facts' },
        facts.label ? h('span', { class: 'label' }, facts.label) : null,
        facts.difference ? h('span', { class: 'differs' }, facts.difference) : null,
        facts.facts.map((fact, index) => h('span', { class: index ? null : 'model' }, fact)))));
}

function versions(facts) {
  if (!facts.siblings.length) return null;
  const at = facts.siblings.indexOf(facts.id);
  const turn = (step) => async () => {
    try {
      await call('PATCH', `chats/${state.chatId}`, { head_id: facts.siblings[at + step] });
      show(state.chatId, { keepPlace: true });
    } catch (problem) { fail(problem); }
  };
  return h('span', { class: 'versions' },
    iconButton('before', 'Previous version', turn(-1), { disabled: at === 0 }),
    h('span', {}, `${at + 1}/${facts.siblings.length}`),
    iconButton('after', 'Next version', turn(1), { disabled: at === facts.siblings.length - 1 }));
}

async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h('textarea', { class: 'sr', 'aria-hidden': 'true' });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  button.dataset.icon = 'done';
  setTimeout(() => { button.dataset.icon = 'copy'; }, 1500);
  announce('Copied.');
}

function again(facts) { tell('ask', { parent_id: facts.parent }); }

function edit(button, facts) {
  if (state.live) { toast('An answer is being written. Stop it first, then edit.'); return; }
  const row = button.closest('.message-row');
  if ($('.edit', row)) return;
  const area = h('textarea', { 'aria-label': 'Edited message', rows: Math.min(10, facts.text.split('\n').length + 1) });
  area.value = facts.text;
  const close = () => { form.remove(); row.classList.remove('editing'); button.focus(); };
  const send = () => {
    if (!area.value.trim()) return;
    tell('ask', { content: area.value, parent_id: facts.parent, edits: facts.id, done: close });
  };
  const form = h('form', { class: 'edit', onsubmit: (event) => { event.preventDefault(); send(); } }, area,
    h('div', { class: 'actions' },
      h('button', { type: 'button', class: 'button small', onclick: close }, 'Cancel'),
      h('button', { type: 'submit', class: 'button small primary' }, 'Send edited')));
  area.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') { event.stopPropagation(); close(); }
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
  row.classList.add('editing');
  row.append(form);
  area.focus();
}

// An empty chat.

export function paintWelcome() {
  const panel = $('#welcome-panel');
  if (!panel) return;
  const empty = !state.live && !state.sending && !state.shownAt && !state.rows.length;
  panel.hidden = !empty;
  $('#scroller')?.classList.toggle('is-empty', empty);
  if (!empty) return;
  const agent = agentNow();
  const key = JSON.stringify([agent?.id, readiness(), state.chatId]);
  if (panel.dataset.key === key) return;
  panel.dataset.key = key;
  panel.replaceChildren(
    h('h3', {}, 'What are we working on?'),
    h('p', {}, readiness()),
    h('div', { class: 'starters' }, (agent?.starters ?? []).slice(0, 3).map((text) =>
      h('button', { type: 'button', class: 'starter', onclick: () => tell('starter', text) }, text.trim()))));
}

function readiness() {
  const model = modelNow();
  if (state.models === null) return ' ';
  if (!state.models.length) return 'No models yet. Start LM Studio, or wait for the built-in engine.';
  if (!model) return 'Pick a model at the top to begin.';
  if (model.loaded || !model.loadable) return `${model.name} is ready.`;
  return `${model.name} is loaded with your first message.`;
}

// Called when the server came back: whatever was followed is taken up again.
export const reattach = () => show(state.chatId, { push: false, keepPlace: true });
