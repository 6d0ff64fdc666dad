// The conversation: asks Gradio to show a chat, and keeps what is known of it.
import { $, appear, h, setText } from './dom.js';
import { isAuto } from './auto.js';
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
  on('jobs', paintWelcome);
  on('chat', () => { document.title = state.chat?.title ? `${state.chat.title} · LM Desk` : 'LM Desk'; });
  $('#earlier button').addEventListener('click', () => show(state.chatId, { everything: true, keepPlace: true }));
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
  tell('rows');
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

export function announce(words) { setText($('#announce'), words); }

// An empty chat.

export function paintWelcome() {
  const panel = $('#welcome-panel');
  if (!panel) return;
  const empty = !state.live && !state.sending && !state.shownAt && !state.rows.length;
  panel.hidden = !empty;
  $('#scroller')?.classList.toggle('is-empty', empty);
  if (!empty) return;
  const agent = agentNow();
  const key = JSON.stringify([agent?.id, agent?.starters, readiness(), state.chatId]);
  if (panel.dataset.key === key) return;
  panel.dataset.key = key;
  panel.replaceChildren(
    h('h3', {}, 'What are we working on?'),
    h('p', {}, readiness()),
    lacking() ? h('button', { type: 'button', class: 'button primary', 'data-act': 'get-models', 'aria-haspopup': 'dialog' }, 'Get models') : '',
    h('div', { class: 'starters' }, (agent?.starters ?? []).slice(0, 3).map((text) =>
      h('button', { type: 'button', class: 'starter', onclick: () => tell('starter', text) }, text.trim()))));
}

// Somebody answers, and has nothing to serve.
const lacking = () => state.models?.length === 0 && state.pulse?.provider.state !== 'off';

function readiness() {
  const model = modelNow();
  if (state.models === null) return ' ';
  if (lacking()) return 'No models yet. Get one to begin.';
  if (!state.models.length) return 'No models yet. Start LM Studio, or wait for the built-in engine.';
  if (isAuto()) return 'Auto picks the model for each question.';
  if (!model) return 'Pick a model at the top to begin.';
  if (model.loaded || !model.loadable) return `${model.name} is ready.`;
  return `${model.name} is loaded with your first message.`;
}

// Called when the server came back: whatever was followed is taken up again.
export const reattach = () => show(state.chatId, { push: false, keepPlace: true });
