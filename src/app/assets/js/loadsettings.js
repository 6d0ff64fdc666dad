// How a model is loaded: a dialog with its remembered options, what each leaves open, and what they need.
import { $, h, iconButton, setText } from './dom.js';
import { call } from './http.js';
import { begin, eject } from './loading.js';
import { modelNow, on, state } from './store.js';
import { fail, toast } from './toasts.js';

const CACHES = ['f32', 'f16', 'q8_0', 'q5_1', 'q5_0', 'q4_1', 'q4_0', 'iq4_nl'];
const FIELDS = [
  { name: 'context_length', label: 'Context length', unit: 'tokens', min: 128, max: 10000000, step: 1 },
  { name: 'gpu_offload', label: 'GPU offload', unit: '% of the layers', min: 0, max: 100, step: 1, scale: 100 },
  { name: 'flash_attention', label: 'Flash attention', options: [['true', 'On'], ['false', 'Off']] },
  { name: 'kv_cache_type', label: 'KV cache type', options: CACHES.map((each) => [each, each]) },
  { name: 'parallel', label: 'Answers at a time', unit: '', min: 1, max: 64, step: 1 },
  { name: 'eval_batch_size', label: 'Evaluation batch', unit: 'tokens', min: 1, max: 65536, step: 1 },
  { name: 'ttl_seconds', label: 'Unload when idle for', unit: 'minutes', min: 1, max: 100000, step: 1, scale: 1 / 60 },
];
const PAUSE = 300;
let dialog = null;
let fields = FIELDS; // those the model's server takes
let timer = 0;
let asked = 0;

export async function startLoadSettings() {
  await window.desk.part('inspector');
  const button = h('button', { type: 'button', class: 'button small load-settings', id: 'load-settings', disabled: true, onclick: open }, 'Load settings');
  $('#model-card').after(button);
  const paint = () => { button.disabled = !modelNow()?.loadable || state.offline; };
  for (const news of ['models', 'picked', 'offline', 'jobs']) on(news, paint);
  paint();
}

async function open() {
  const model = modelNow();
  if (!model || dialog) return;
  const before = document.activeElement;
  try {
    build(model, await call('GET', `models/settings?model_id=${encodeURIComponent(model.full_name)}`));
  } catch (problem) { fail(problem); return; }
  dialog.addEventListener('close', () => {
    clearTimeout(timer);
    dialog.remove();
    dialog = null;
    if (before?.isConnected) before.focus();
  });
  dialog.showModal();
  if (fields.length) estimate(model);
}

function build(model, told) {
  const shut = () => dialog.close();
  fields = FIELDS.filter((field) => told.takes.includes(field.name));
  if (!fields.length) { nothing(model, shut); return; }
  dialog = document.body.appendChild(h('dialog', { class: 'sheet load-settings', 'aria-labelledby': 'load-settings-title' },
    h('form', { method: 'dialog', novalidate: true, onsubmit: (event) => { event.preventDefault(); save(model, false); } },
      h('div', { class: 'head' }, h('h2', { id: 'load-settings-title' }, `How ${model.name} is loaded`), iconButton('close', 'Close', shut)),
      h('p', { class: 'said' }, 'Remembered for this model, whoever loads it here. An empty field is left to its server.',
        told.loaded_context ? ` It is loaded with ${told.loaded_context.toLocaleString('en')} tokens of context now.` : ''),
      h('div', { class: 'fields' }, fields.map((field) => row(field, told))),
      h('p', { class: 'need', role: 'status' }),
      h('p', { class: 'wrong', role: 'alert', hidden: true }),
      h('div', { class: 'ends' },
        h('button', { type: 'button', class: 'button reset', onclick: () => reset(model) }, 'Reset'),
        h('button', { type: 'button', class: 'button', onclick: shut }, 'Cancel'),
        told.loaded ? h('button', { type: 'button', class: 'button', onclick: () => save(model, true) }, 'Save and load again') : null,
        h('button', { type: 'submit', class: 'button primary' }, 'Save')))));
  dialog.addEventListener('input', () => { paintLevels(); estimateSoon(model); });
  paintLevels();
}

// Some servers load every model with settings of their own.
function nothing(model, shut) {
  dialog = document.body.appendChild(h('dialog', { class: 'sheet load-settings', 'aria-labelledby': 'load-settings-title' },
    h('div', { class: 'head' }, h('h2', { id: 'load-settings-title' }, `How ${model.name} is loaded`), iconButton('close', 'Close', shut)),
    h('p', { class: 'said' }, `${model.full_name.split(':')[0]} loads its models with settings of its own: none can be chosen here.`),
    h('div', { class: 'ends' }, h('button', { type: 'button', class: 'button', onclick: shut }, 'Close'))));
}

function row(field, told) {
  const value = told.options[field.name];
  const id = `load-${field.name}`;
  const max = field.name === 'context_length' && told.max_context_length ? told.max_context_length : field.max;
  const input = field.options
    ? h('select', { id, name: field.name }, h('option', { value: '' }, 'Automatic'),
      field.options.map(([key, words]) => h('option', { value: key, selected: String(value) === key }, words)))
    : h('input', { id, name: field.name, type: 'number', inputmode: 'numeric', min: field.min, max, step: field.step, placeholder: 'Automatic',
      value: value === null ? null : Math.round(value * (field.scale ?? 1)) });
  const most = field.name === 'context_length' && told.max_context_length ? ` · up to ${told.max_context_length.toLocaleString('en')}` : '';
  return h('div', { class: 'field' }, h('label', { for: id }, field.label, h('small', {}, `${field.unit ?? ''}${most}`)), input, h('small', { class: 'level' }));
}

function paintLevels() {
  for (const field of fields) {
    const input = $(`[name=${field.name}]`, dialog);
    const level = input.parentElement.querySelector('.level');
    setText(level, input.value === '' ? "server's choice" : 'set for this model');
    level.classList.toggle('set', input.value !== '');
  }
}

// The options as the API takes them; null with the sentence shown if one cannot be used.
function read() {
  const options = {};
  for (const field of fields) {
    const input = $(`[name=${field.name}]`, dialog);
    if (!input.validity.valid) return { wrong: `${field.label}: between ${input.min} and ${Number(input.max).toLocaleString('en')}.`, input };
    if (input.value === '') options[field.name] = null;
    else if (field.name === 'flash_attention') options[field.name] = input.value === 'true';
    else if (field.options) options[field.name] = input.value;
    else options[field.name] = field.name === 'gpu_offload' ? Number(input.value) / 100 : Math.round(Number(input.value) / (field.scale ?? 1));
  }
  return { options };
}

function estimateSoon(model) {
  clearTimeout(timer);
  timer = setTimeout(() => estimate(model), PAUSE);
}

async function estimate(model) {
  const mine = ++asked;
  const { options, wrong, input } = read();
  complain(wrong, input);
  const line = $('.need', dialog);
  if (wrong) { setText(line, ''); return; }
  try {
    const told = await call('POST', 'models/settings/estimate', { model_id: model.full_name, options });
    if (!dialog || mine !== asked) return;
    setText(line, told.words);
    line.classList.toggle('short', told.fits === false);
  } catch { if (dialog && mine === asked) setText(line, ''); } // the load itself says what is wrong
}

function complain(wrong, input) {
  const line = $('.wrong', dialog);
  line.hidden = !wrong;
  setText(line, wrong ?? '');
  for (const each of dialog.querySelectorAll('[aria-invalid]')) each.removeAttribute('aria-invalid');
  if (wrong) input.setAttribute('aria-invalid', 'true');
}

function reset(model) {
  for (const field of fields) $(`[name=${field.name}]`, dialog).value = '';
  paintLevels();
  estimate(model);
}

async function save(model, again) {
  const { options, wrong, input } = read();
  complain(wrong, input);
  if (wrong) { input.focus(); return; }
  try {
    await call('PUT', 'models/settings', { model_id: model.full_name, options });
  } catch (problem) { complain(`${problem.message} ${problem.hint ?? ''}`.trim(), $('[name=context_length]', dialog)); return; }
  dialog.close();
  if (!again) { toast(model.loaded ? 'Saved. It counts from the next load.' : 'Saved.'); return; }
  try {
    await eject(model.full_name);
    if (!state.models.find((each) => each.full_name === model.full_name)?.loaded) await begin(model.full_name, { act: 'load' });
  } catch (problem) { fail(problem); }
}
