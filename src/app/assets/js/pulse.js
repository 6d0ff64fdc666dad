// Once a second: what changed on the server. Pauses while the tab is hidden.
import { $, setText } from './dom.js';
import { call } from './http.js';
import { reattach, show } from './conversation.js';
import { reload } from './chats.js';
import { reloadModels } from './models.js';
import { on, state, tell } from './store.js';

const CALM = 1000;
const HASTE = 250;
const SHOW_PATIENCE = 4000;
let timer = 0;
let misses = 0;
let seen = { models: null, chats: null };
let orphaned = 0;

export function startPulse() {
  on('hurry', () => beat());
  on('lost', () => { misses = Math.max(misses, 1); beat(); });
  on('live', status);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) beat(); });
  beat();
}

async function beat() {
  clearTimeout(timer);
  if (document.hidden) return;
  const number = ++beat.number;
  const chatId = state.chatId;
  try {
    const told = await call('GET', `pulse${chatId ? `?chat_id=${encodeURIComponent(chatId)}` : ''}`, undefined, { timeout: 5000 });
    if (number !== beat.number) return;
    misses = 0;
    await online(told);
  } catch (problem) {
    if (number !== beat.number) return;
    if (problem.offline === undefined) console.error(problem);
    misses += 1;
    if (misses >= 2) offline();
  }
  const haste = state.jobs.some((job) => job.kind === 'load' || job.phase === 'loading') ? HASTE : CALM;
  clearTimeout(timer);
  timer = setTimeout(beat, misses ? Math.min(500 * misses, 2000) : haste);
}
beat.number = 0;

async function online(told) {
  const wasOffline = state.offline;
  state.offline = false;
  state.pulse = told;
  state.jobs = told.jobs.map((job) => ({ ...job, seenAt: Date.now() }));
  status();
  notices();
  tell('hardware', told.hardware);
  tell('jobs');
  if (wasOffline) { seen = { models: null, chats: null }; tell('offline'); }
  if (seen.models !== told.models_revision || state.models === null) { await reloadModels(); seen.models = told.models_revision; }
  if (seen.chats !== told.chats_revision) { seen.chats = told.chats_revision; reload(); }
  if (wasOffline) reattach(); else conversation(told.chat);
}

// Another tab wrote here, or our own watching was cut off.
function conversation(chat) {
  if (!chat || chat.id !== state.chatId || state.sending) return;
  if (state.shownAt) {
    if (Date.now() - state.shownAt > SHOW_PATIENCE) reattach();
    return;
  }
  if (state.live) {
    orphaned = chat.running_job_id === state.live.job_id ? 0 : orphaned + 1;
    if (orphaned > 2) { orphaned = 0; reattach(); }
    return;
  }
  orphaned = 0;
  if (chat.running_job_id || chat.revision !== state.revision) show(chat.id, { push: false, keepPlace: true });
}

function offline() {
  const first = !state.offline;
  state.offline = true;
  state.jobs = [];
  notices();
  status();
  if (first) { tell('offline'); tell('jobs'); }
}

function notices() {
  const away = $('#offline');
  if (away) {
    away.hidden = !state.offline;
    setText(away, state.offline ? "LM Desk's server does not answer. Trying again…" : '');
  }
  const own = $('#embedded');
  if (own) {
    const shown = Boolean(state.pulse?.embedded_in_use) && !state.offline;
    own.hidden = !shown;
    setText($('span', own), shown ? 'LM Studio is not running, so the built-in engine answers. Start LM Studio and it shows up here by itself.' : '');
  }
}

function status() {
  const place = $('#provider');
  if (!place) return;
  const provider = state.offline ? { state: 'off', words: 'Offline, trying again', detail: '' } : state.pulse?.provider;
  if (provider) {
    place.dataset.state = provider.state;
    place.title = provider.detail;
    setText($('span', place), provider.words);
  }
  const last = state.rows.filter((row) => row.role === 'assistant').at(-1);
  const { speed, tokens } = state.live ?? last ?? {};
  setText($('#stat-speed b'), speed ?? '–');
  setText($('#stat-tokens b'), String(tokens ?? '–'));
  setText($('#stat-version'), state.pulse ? `LM Desk ${state.pulse.version}` : '');
}
on('chat', status);
