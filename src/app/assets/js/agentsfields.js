// The pieces an agent's form is made of: labelled controls, what is wrong with them, lists in an order.
import { $, $$, h, iconButton } from './dom.js';

export function labelled({ key, label, hint = '', control, wide = false }) {
  const id = `agent-${key.replaceAll('.', '-')}`;
  const notes = `${id}-notes`;
  control.id = id;
  control.dataset.key = key;
  control.setAttribute('aria-describedby', notes);
  return h('div', { class: `field${wide ? ' wide' : ''}` }, h('label', { for: id }, label), control,
    h('div', { class: 'notes', id: notes, role: 'status' }, hint ? h('small', {}, hint) : null, problems(key)));
}

export const problems = (key) => h('div', { class: 'problems', 'data-for': key });

// Each at its field; what no field is for stands at the foot. `at` also moves the focus to the first.
export function complain(form, found, { at = false } = {}) {
  for (const place of $$('.problems', form)) fill(place, found.filter((each) => each.field === place.dataset.for));
  const places = new Set($$('.problems', form).map((place) => place.dataset.for));
  fill($('.problems.rest', form), found.filter((each) => !places.has(each.field)));
  for (const input of $$('[data-key]', form)) {
    if (found.some((each) => each.field === input.dataset.key && each.weight !== 'note')) input.setAttribute('aria-invalid', 'true');
    else input.removeAttribute('aria-invalid');
  }
  const first = $('[aria-invalid]', form);
  if (!at || !first) return;
  const folded = first.closest('details');
  if (folded) folded.open = true;
  first.focus();
}

function fill(place, found) {
  const key = JSON.stringify(found);
  if (place.dataset.told === key) return;
  place.dataset.told = key;
  place.replaceChildren(...found.map((each) => h('small', { class: each.weight === 'note' ? 'note' : 'wrong' }, each.message)));
}

// Which field a refusal is about: `parameters.top_p`, and of a list the list.
export function refusal(problem) {
  const field = (problem.parameter ?? '').replace(/^agent\./, '').replace(/\.\d+(\..*)?$/, '');
  const words = problem.message.startsWith(`${problem.parameter}: `) ? problem.message.slice(problem.parameter.length + 2) : problem.message;
  return { field, message: `${words} ${problem.hint ?? ''}`.trim(), weight: 'problem' };
}

export const text = (value, more = {}) => h('input', { type: 'text', value: value ?? '', autocomplete: 'off', ...more });

// Lines of text in an order: moved by buttons or with Alt and the arrows, another one with Enter.
export function lines({ key, label, hint, values, most, add, one, locked, changed, more = {} }) {
  const list = h('ol', { class: 'lines', onkeydown: onKey });
  const plus = locked ? null : h('button', { type: 'button', class: 'button small', onclick: () => append('').focus() }, add);
  const node = h('fieldset', { class: 'field wide ordered' }, h('legend', {}, label), hint ? h('small', {}, hint) : null, list, plus,
    h('div', { class: 'notes', role: 'status' }, problems(key)));
  values.forEach((value) => append(value));
  tidy();

  const read = () => $$('input', list).map((each) => each.value.trim()).filter(Boolean);

  function append(value) {
    const input = text(value, { ...more, readonly: locked, oninput: () => changed(read()) });
    list.append(h('li', {}, input, locked ? null : [
      iconButton('up', 'Move up', (event) => shift(event.currentTarget, -1)),
      iconButton('low', 'Move down', (event) => shift(event.currentTarget, 1)),
      iconButton('close', 'Remove', (event) => drop(event.currentTarget))]));
    tidy();
    return input;
  }

  function shift(from, step) {
    const row = from.closest('li');
    const other = step < 0 ? row.previousElementSibling : row.nextElementSibling;
    if (!other) return;
    if (step < 0) other.before(row); else other.after(row);
    tidy();
    (from.disabled ? $('input', row) : from).focus();
    changed(read());
  }

  function drop(button) {
    const row = button.closest('li');
    const next = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    tidy();
    (next ? $('input', next) : plus).focus();
    changed(read());
  }

  function onKey(event) {
    const input = event.target.closest('input');
    if (!input || locked) return;
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (event.altKey && step) { event.preventDefault(); shift(input, step); }
    else if (event.key === 'Enter') { event.preventDefault(); if (!plus.disabled) append('').focus(); }
  }

  function tidy() {
    const rows = [...list.children];
    rows.forEach((row, index) => {
      $('input', row).setAttribute('aria-label', `${one} ${index + 1}`);
      const [up, down, remove] = $$('button', row);
      if (!up) return;
      up.disabled = index === 0;
      down.disabled = index === rows.length - 1;
      for (const [button, does] of [[up, 'up'], [down, 'down']]) button.setAttribute('aria-label', `Move ${one.toLowerCase()} ${index + 1} ${does}`);
      remove.setAttribute('aria-label', `Remove ${one.toLowerCase()} ${index + 1}`);
    });
    list.hidden = !rows.length;
    if (plus) plus.disabled = rows.length >= most;
  }

  return node;
}

export function check(label, checked, locked, changed, hint = '') {
  const made = h('label', { class: 'check' }, h('input', { type: 'checkbox', checked, disabled: locked, onchange: (event) => changed(event.target.checked) }),
    h('span', {}, label, hint ? h('small', {}, hint) : null));
  return made;
}

