// Parameters of this chat. What is not set here is the agent's, and after that the provider's.
import { $, h, setText } from './dom.js';
import { call } from './http.js';
import { agentNow, on, state } from './store.js';
import { fail } from './toasts.js';

const FIELDS = [
  { name: 'temperature', label: 'Temperature', min: 0, max: 2, most: 2, step: 0.05, rest: 0.7 },
  { name: 'top_p', label: 'Top-p', min: 0.01, max: 1, most: 1, step: 0.01, rest: 0.9 },
  { name: 'top_k', label: 'Top-k', min: 0, max: 200, most: 1000, step: 1, rest: 40 },
  { name: 'max_tokens', label: 'Max tokens', min: 1, max: 8192, most: 1000000, step: 1, rest: 2048 },
];
let timer = 0;
let pending = null;
let painted = '';

export async function startParams() {
  await window.desk.part('inspector');
  $('#params').replaceChildren(
    ...FIELDS.map(field),
    h('label', { class: 'param text' }, h('span', {}, 'System prompt'),
      h('textarea', { id: 'system-prompt', rows: 3, oninput: (event) => change('system_prompt', event.target.value || null) })),
    h('button', { type: 'button', class: 'button small', id: 'reset-params', onclick: reset }, "Reset to the agent's"));
  on('chat', paint);
  on('picked', paint);
  on('agents', paint);
  paint();
}

function field({ name, label, min, max, most, step }) {
  return h('div', { class: 'param', 'data-name': name },
    h('span', { id: `param-${name}` }, label),
    h('input', { type: 'number', min, max: most, step, 'aria-labelledby': `param-${name}`,
      oninput: (event) => typed(name, event.target) }),
    h('input', { type: 'range', min, max, step, 'aria-label': `${label} slider`,
      oninput: (event) => change(name, Number(event.target.value)) }));
}

function typed(name, input) {
  if (input.value !== '' && !input.checkValidity() && !input.validity.stepMismatch) return;
  change(name, input.value === '' ? null : Number(input.value));
}

function change(name, value) {
  const next = { ...state.parameters, [name]: value };
  for (const [key, each] of Object.entries(next)) if (each === null || each === undefined) delete next[key];
  state.parameters = next;
  paint();
  save();
}

function reset() {
  state.parameters = {};
  paint();
  save();
}

function save() {
  clearTimeout(timer);
  const { chatId, parameters } = state;
  if (!chatId) return; // it goes along with the first message
  pending = () => call('PATCH', `chats/${chatId}`, { parameters }).catch(fail);
  timer = setTimeout(saveNow, 350);
}

// What was set a moment ago counts for a message sent now.
export async function saveNow() {
  clearTimeout(timer);
  const work = pending;
  pending = null;
  await work?.();
}

function paint() {
  if (!$('#params')) return;
  const agent = agentNow();
  const own = state.parameters ?? {};
  const key = JSON.stringify([own, agent?.id, agent?.version]);
  if (key === painted) return;
  painted = key;
  for (const { name, rest } of FIELDS) {
    const row = $(`.param[data-name=${name}]`);
    const theirs = agent?.parameters?.[name];
    const number = $('input[type=number]', row);
    const slider = $('input[type=range]', row);
    const set = own[name] ?? null;
    row.classList.toggle('set', set !== null);
    number.placeholder = theirs ?? 'auto';
    if (document.activeElement !== number || Number(number.value) !== set) number.value = set ?? '';
    slider.value = set ?? theirs ?? rest;
    slider.style.setProperty('--share', `${((slider.value - slider.min) / (slider.max - slider.min)) * 100}%`);
    slider.setAttribute('aria-valuetext', set === null ? `${theirs ?? 'auto'}, from the agent` : String(set));
  }
  const prompt = $('#system-prompt');
  prompt.placeholder = agent?.instructions ?? '';
  if (document.activeElement !== prompt) prompt.value = own.system_prompt ?? '';
  $('#reset-params').disabled = !Object.keys(own).some((name) => own[name] !== null && own[name] !== undefined);
  setText($('#reset-params'), "Reset to the agent's");
}
