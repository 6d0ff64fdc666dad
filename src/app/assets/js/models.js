// The two dropdowns, the model's card, and its state with the progress of a load.
import { AUTO, autoCard, isAuto } from './auto.js';
import { $, h, kept, seconds, setText } from './dom.js';
import { call } from './http.js';
import { cancelLoad, eject, load, settle, startLoading } from './loading.js';
import { modelNow, on, state, STILL, tell } from './store.js';
import { fail } from './toasts.js';

let bridge = null;
let owed = false; // an offer that waits until a list is closed

export async function startModels() {
  ({ extra: bridge } = await window.desk.part('bridge'));
  await Promise.all(['modelbar', 'inspector'].map(window.desk.part));
  window.desk.listen('picked', picked);
  $('#load').addEventListener('click', load);
  $('#cancel-load').addEventListener('click', cancel);
  $('#unload').addEventListener('click', () => eject(state.model));
  startLoading(reloadModels);
  on('jobs', () => { settle(); paint(); });
  on('opened', followChat);
  setInterval(() => { if (owed) offer(); paint(); }, 500);
}

// Lists anew, and shows in the dropdowns what there is and what is picked.
export async function reloadModels() {
  const [models, agents] = await Promise.all([call('GET', 'models'), call('GET', 'agents')]);
  state.models = models;
  state.agents = agents;
  if (!state.agents.some((agent) => agent.id === state.agent)) state.agent = agents[0]?.id ?? null;
  if (!modelNow() && !isAuto() && !state.chat?.model_id) state.model = defaultModel();
  offer();
  tell('models');
  tell('agents');
  paint();
}

function defaultModel() {
  const named = state.pulse?.default_model?.toLowerCase();
  const wished = named && state.models.find((model) => [model.full_name, model.full_name.slice(model.full_name.indexOf(':') + 1)].some((each) => each.toLowerCase() === named));
  if (wished) return wished.full_name;
  if (kept.get('model') === AUTO) return AUTO;
  if (!state.pulse?.picks_loaded) return null; // models are left to the person
  const chat = state.models.filter((model) => model.kind === 'llm' && !model.stale);
  return (chat.find((model) => model.loaded) ?? chat.find((model) => model.full_name === kept.get('model')) ?? chat[0])?.full_name ?? null;
}

// Never while one of the lists is open: what somebody is about to pick would move away.
function offer() {
  owed = Boolean($(':is(#agent, #model) input[aria-expanded=true]'));
  if (!owed) bridge.choices({ agent: state.agent, model: state.model });
}

function picked({ kind, value }) {
  if (!value || state[kind] === value) return;
  state[kind] = value;
  kept.set(kind, value);
  if (state.chatId) {
    call('PATCH', `chats/${state.chatId}`, { [`${kind}_id`]: value }).catch((problem) => { if (!problem.offline) fail(problem); });
  }
  // An offer under way was made before the pick, and would paint what was picked then.
  offer();
  tell('picked');
  paint();
}

// A chat brings its own agent and model.
function followChat() {
  const { model_id: model } = state.chat;
  const known = !state.agents || state.agents.some((each) => each.id === state.chat.agent_id);
  const agent = known ? state.chat.agent_id : null; // it may be deleted by now
  const changes = (agent && agent !== state.agent) || (model && model !== state.model);
  if (agent) state.agent = agent;
  if (model) state.model = model;
  if (changes && state.models !== null) offer();
  tell('picked');
  paint();
}

async function cancel() {
  const job = loadJob();
  if (!job) return;
  $('#cancel-load').disabled = true;
  await cancelLoad(job);
  $('#cancel-load').disabled = false;
}

const loadJob = () => {
  const loads = state.jobs.filter((job) => job.kind === 'load' || (job.kind === 'turn' && job.phase === 'loading'));
  loads.sort((one, other) => (other.kind === 'load') - (one.kind === 'load'));
  return loads.find((job) => job.model_id === state.model) ?? loads[0] ?? null;
};

function paint() {
  const bar = $('.modelbar .bar');
  if (!bar) return;
  const model = modelNow();
  const job = loadJob();
  const mine = job && job.model_id === state.model;
  const moving = Boolean(job) || state.unloading;
  const cancels = job?.kind === 'load'; // a load for an answer ends with that answer's Stop
  $('#load').hidden = cancels;
  $('#load').disabled = !model || model.loaded || !model.loadable || model.stale || moving || state.offline;
  $('#cancel-load').hidden = !cancels;
  $('#unload').disabled = !model?.loaded || !model.loadable || moving || state.offline;
  bar.hidden = !job;
  if (job) {
    const percent = Math.round((job.progress ?? 0) * 100);
    bar.setAttribute('aria-valuenow', String(percent));
    $('b', bar).style.width = `${percent}%`;
    bar.classList.toggle('unknown', job.progress === null || job.progress === undefined);
  }
  const pill = $('.modelbar .pill');
  pill.dataset.state = moving || state.checking ? 'busy' : model?.state ?? 'none';
  if (((model && !model.loadable && !model.stale) || isAuto()) && !moving) pill.dataset.state = 'loaded';
  const words = stateWords(model, job, mine);
  setText($('#model-state'), words);
  $('#model-state').title = words;
  card(model);
  setText($('#card-state'), mine || !job ? words : model?.state_words ?? '–');
}

function stateWords(model, job, mine) {
  if (job) {
    const since = (Date.now() - (job.seenAt ?? Date.now())) / 1000;
    if (job.phase === 'loading' && (job.still ?? 0) + since >= STILL) return `Nothing has moved for ${seconds((job.still ?? 0) + since)}`;
    const percent = job.progress === null || job.progress === undefined ? '' : ` ${job.exact === false ? '~' : ''}${Math.round(job.progress * 100)} %`;
    return `${job.stage ?? `Loading${mine ? '' : nameOf(job.model_id)}`}${percent} · ${job.left ?? seconds((job.age ?? 0) + since)}`;
  }
  if (state.checking) return 'Checking the memory';
  if (state.unloading) return `Unloading${state.unloading === state.model ? '' : nameOf(state.unloading)}`;
  if (state.models === null) return 'Looking for models';
  if (isAuto()) return 'Picks for each question';
  return model?.state_words ?? (state.models.length ? 'Pick a model' : 'No models');
}

function nameOf(fullName) {
  const model = state.models?.find((each) => each.full_name === fullName);
  return model ? ` ${model.name}` : '';
}

function card(model) {
  const place = $('#model-card');
  const key = model ? JSON.stringify(model) : String(state.model);
  if (!place || place.dataset.key === key) return;
  place.dataset.key = key;
  if (!model && isAuto()) { place.replaceChildren(autoCard()); return; }
  if (!model) { place.replaceChildren(h('p', { class: 'note' }, 'No model is picked.')); return; }
  place.replaceChildren(h('h3', {}, model.name),
    h('dl', {}, h('div', {}, h('dt', {}, 'State'), h('dd', { id: 'card-state' })), model.facts.map(([label, value]) => h('div', {}, h('dt', {}, label), h('dd', {}, value)))));
}
