// What the settings dialog knows, the one way to change something, and the fields it is made of.
import { $, $$, h, setText } from './dom.js';
import { call } from './http.js';
import { state, tell } from './store.js';

export const told = { view: null };

export async function read() { told.view = await call('GET', 'settings'); }

// Raises the Problem; of a file that somebody else changed the new content is read first.
async function changed(request) {
  try {
    told.view = await request();
  } catch (problem) {
    if (problem.code === 'settings_file_changed') await read();
    throw problem;
  }
  tell('hurry');
  return told.view.undo;
}
const revision = () => told.view.revision;
export const patch = (changes) => changed(() => call('PATCH', 'settings', { changes, revision: revision() }));
export const keepProvider = (name, entry) => changed(() => call('PUT', `settings/providers/${encodeURIComponent(name)}`, { entry, revision: revision() }));
export const removeProvider = (name) => changed(() => call('DELETE', `settings/providers/${encodeURIComponent(name)}?revision=${revision()}`));
export const takeBack = (word) => changed(() => call('POST', `settings/undo/${encodeURIComponent(word)}`));

// A labelled control. `locked` is why it cannot be changed here.
export function field({ key, label, hint = '', control, locked = '' }) {
  const id = `set-${key.replaceAll('.', '-')}`;
  const notes = `${id}-notes`;
  control.id = id;
  control.dataset.key = key;
  control.setAttribute('aria-describedby', notes);
  if (locked) control.disabled = true;
  return h('div', { class: 'field' }, h('label', { for: id }, label), control,
    h('div', { class: 'notes', id: notes },
      hint ? h('small', {}, hint) : null,
      locked ? h('small', { class: 'locked', 'data-icon': 'lock' }, locked) : null,
      h('small', { class: 'wrong', role: 'alert' })));
}

export const choice = (options, value) => h('select', {}, options.map(([key, words]) => h('option', { value: key, selected: key === String(value ?? '') }, words)));
export const line = (value, more = {}) => h('input', { type: 'text', value: value ?? '', autocomplete: 'off', spellcheck: 'false', autocapitalize: 'off', maxlength: 2000, ...more });
export const listOf = (text) => text.split(/[,\s]+/).filter(Boolean);

// Puts a refusal at the field it is about, else at the foot of the form; `prefix` is what all its keys begin with.
export function complain(form, problem, prefix = '') {
  for (const wrong of $$('.wrong', form)) setText(wrong, '');
  for (const input of $$('[aria-invalid]', form)) input.removeAttribute('aria-invalid');
  if (!problem) return;
  const words = `${problem.message} ${problem.hint ?? ''}`.trim();
  const key = problem.parameter?.startsWith(prefix) ? problem.parameter.slice(prefix.length) : problem.parameter;
  const input = key ? $$('[data-key]', form).find((each) => each.dataset.key === key && !each.disabled) : null;
  const place = input ? input.closest('.field') : $('.foot', form) ?? form;
  setText($('.wrong', place), words);
  if (!input) return;
  input.setAttribute('aria-invalid', 'true');
  const more = input.closest('details');
  if (more) more.open = true;
  input.focus();
}

// What a list of names and patterns means among the models of now.
export function meant(text) {
  const missing = listOf(text).filter((each) => !state.models?.some((model) => matches(each, model)));
  return missing.length && state.models ? `No model here is called ${missing.join(', ')} now.` : '';
}

function matches(pattern, model) {
  const rule = new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*').replaceAll('?', '.')}$`, 'i');
  return [model.full_name, model.full_name.slice(model.full_name.indexOf(':') + 1), model.name].some((name) => rule.test(name));
}
