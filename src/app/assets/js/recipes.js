// Recipes: tasks in steps, each by its own agent and model. The list, the form, and carrying one out in a chat.
import { $, $$, h, iconButton, setText } from './dom.js';
import { draft } from './drafts.js';
import { call } from './http.js';
import { show } from './conversation.js';
import { agentName, state, tell } from './store.js';
import { fail, toast } from './toasts.js';

const MOST = 20;
const FRESH = { name: '', description: '', steps: [{ prompt: '{{input}}', agent_id: null, model: null }, { prompt: '{{previous}}', agent_id: null, model: null }] };
let dialog = null;
let recipes = [];
let chosen = null; // the one in the form; one without an id is new

export function startRecipes() {
  document.addEventListener('click', (event) => {
    if (!event.target.closest?.('[data-act=recipes]')) return;
    $('dialog[open]')?.close();
    openRecipes();
  });
}

export async function openRecipes() {
  if (dialog) return;
  const before = document.activeElement;
  const own = dialog = document.body.appendChild(h('dialog', { class: 'sheet recipes', 'aria-labelledby': 'recipes-title' },
    h('div', { class: 'head' }, h('h2', { id: 'recipes-title' }, 'Recipes'), iconButton('close', 'Close', () => own.close())),
    h('p', { class: 'note' }, 'A task in steps, each by its own agent and model: one thinks, the next writes. All of it stands in one chat.'),
    h('div', { class: 'body' })));
  own.addEventListener('click', (event) => { if (event.target === own) own.close(); });
  own.addEventListener('close', () => { own.remove(); dialog = null; chosen = null; if (before?.isConnected) before.focus(); });
  own.showModal();
  await reload();
}

async function reload(id = null) {
  try {
    recipes = await call('GET', 'recipes');
  } catch (problem) {
    if (dialog) place().replaceChildren(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`));
    return;
  }
  if (!dialog) return;
  const found = recipes.find((each) => each.id === id);
  if (found) { choose(found); return; }
  chosen = null;
  paint();
}

const place = () => $('.body', dialog);

function paint() {
  if (dialog) place().replaceChildren(...(chosen ? form() : list()));
}

function list() {
  return [
    recipes.length ? h('ul', { class: 'list' }, recipes.map(row)) : h('p', { class: 'empty' }, 'No recipes yet. Make one of two steps: let a thinker plan, and a coder build it.'),
    h('div', { class: 'ends' }, h('button', { type: 'button', class: 'button primary', onclick: () => choose(FRESH) }, 'New recipe'))];
}

function row(recipe) {
  const who = recipe.steps.map((step) => agentName(step.agent_id)).join(' → ');
  return h('li', {},
    h('button', { type: 'button', class: 'pick', onclick: () => choose(recipe) }, h('b', {}, recipe.name), h('small', {}, draft.get(named(recipe)) ? 'Changed, not saved · ' : null, recipe.description || who)),
    h('button', { type: 'button', class: 'button small primary', onclick: () => ask(recipe) }, 'Run'));
}

const named = (recipe) => `recipe.${recipe.id ?? 'new'}`;

function choose(recipe) {
  chosen = draft.get(named(recipe)) ?? structuredClone(recipe);
  paint();
  $('input', place()).focus();
}

// Esc, a click beside the dialog, a reload: it is here again next time.
function keep() {
  const saved = recipes.find((each) => each.id === chosen.id) ?? FRESH;
  const parts = ({ name, description, steps }) => JSON.stringify([name, description, steps]);
  const same = parts(saved) === parts(chosen);
  draft.set(named(chosen), same ? null : chosen);
  $('.discard', place()).hidden = same;
}

// What is kept by now may be newer than what was changed here.
function discard() {
  draft.set(named(chosen), null);
  if (chosen.id) reload(chosen.id); else choose(FRESH);
}

// The form

function form() {
  return [h('form', { novalidate: true, oninput: keep, onsubmit: (event) => { event.preventDefault(); save(); } },
    h('label', { class: 'field' }, h('span', {}, 'Name'), h('input', { name: 'name', value: chosen.name, maxlength: 80, required: true, oninput: set('name') })),
    h('label', { class: 'field' }, h('span', {}, 'Purpose'), h('input', { name: 'description', value: chosen.description, maxlength: 300, oninput: set('description') })),
    h('ol', { class: 'steps' }, chosen.steps.map(step)),
    h('p', { class: 'note' }, '{{input}} is what you type when you run it, {{previous}} the answer before, {{step 1}} that of the first step.'),
    h('p', { class: 'wrong', role: 'alert', hidden: true }),
    h('div', { class: 'ends' },
      h('button', { type: 'button', class: 'button', onclick: () => { chosen = null; paint(); } }, 'Back'),
      h('button', { type: 'button', class: 'button discard', hidden: !draft.get(named(chosen)), onclick: discard }, 'Discard changes'),
      chosen.id ? h('button', { type: 'button', class: 'button', onclick: remove }, 'Delete') : null,
      h('button', { type: 'button', class: 'button', disabled: chosen.steps.length >= MOST, onclick: add }, 'Add a step'),
      h('button', { type: 'submit', class: 'button primary' }, 'Save')))];
}

const set = (key) => (event) => { chosen[key] = event.target.value; };

function step(each, index) {
  const label = `Step ${index + 1}`;
  const models = (state.models ?? []).filter((model) => model.kind === 'llm').map((model) => [model.full_name, model.name]);
  return h('li', {},
    h('div', { class: 'top' }, h('b', {}, label),
      iconButton('up', `Move ${label} up`, () => move(index, -1), { disabled: index === 0 }),
      iconButton('low', `Move ${label} down`, () => move(index, 1), { disabled: index === chosen.steps.length - 1 }),
      iconButton('trash', `Remove ${label}`, () => drop(index), { disabled: chosen.steps.length === 1 })),
    h('div', { class: 'who' },
      pick(`Agent of ${label}`, [['', 'Usual agent'], ...(state.agents ?? []).map((agent) => [agent.id, agent.name])], each.agent_id, 'Deleted agent', (value) => { each.agent_id = value; }),
      pick(`Model of ${label}`, [['', 'Usual model'], ['auto', 'Auto'], ...models], each.model, `${each.model} (not here now)`, (value) => { each.model = value; })),
    textarea(each, label));
}

function pick(label, options, value, missing, change) {
  const known = options.some(([option]) => option === (value ?? ''));
  const all = known ? options : [...options, [value, missing]];
  return h('select', { 'aria-label': label, oninput: (event) => change(event.target.value || null) },
    all.map(([option, words]) => h('option', { value: option, selected: option === (value ?? '') }, words)));
}

function textarea(each, label) {
  const area = h('textarea', { 'aria-label': `What ${label} is asked`, rows: 3, maxlength: 100000, oninput: (event) => { each.prompt = event.target.value; } });
  area.value = each.prompt;
  return area;
}

function move(index, by) {
  const [each] = chosen.steps.splice(index, 1);
  chosen.steps.splice(index + by, 0, each);
  repaint();
  $$('.steps > li', place())[index + by].querySelector('textarea').focus();
}

function drop(index) { chosen.steps.splice(index, 1); repaint(); }

function repaint() { keep(); paint(); }

function add() {
  chosen.steps.push({ prompt: '{{previous}}', agent_id: null, model: null });
  repaint();
  $$('.steps textarea', place()).at(-1).focus();
}

async function save() {
  const mine = chosen;
  const body = { name: mine.name.trim(), description: mine.description.trim(), steps: mine.steps };
  try {
    const kept = mine.id
      ? await call('PUT', `recipes/${encodeURIComponent(mine.id)}`, { ...body, version: mine.version })
      : await call('POST', 'recipes', body);
    draft.set(named(mine), null);
    toast(`${kept.name} is saved.`);
    await reload();
  } catch (problem) { blame(problem); }
}

function blame(problem) {
  const line = dialog && $('.wrong', place());
  if (!line) { fail(problem); return; }
  line.hidden = false;
  setText(line, `${problem.message} ${problem.hint ?? ''}`);
}

async function remove() {
  const gone = chosen;
  try {
    await call('DELETE', `recipes/${encodeURIComponent(gone.id)}`);
    draft.set(named(gone), null);
    toast(`${gone.name} is deleted.`, { action: { label: 'Undo', act: () => back(gone) } });
    await reload();
  } catch (problem) { fail(problem); }
}

async function back({ name, description, steps }) {
  try {
    await call('POST', 'recipes', { name, description, steps });
    if (dialog) await reload();
  } catch (problem) { fail(problem); }
}

// Carrying it out

function ask(recipe) {
  if (!recipe.steps.some((each) => /\{\{\s*input\s*\}\}/i.test(each.prompt))) { run(recipe, ''); return; }
  const input = `input.${recipe.id}`;
  const area = h('textarea', { 'aria-label': `Input for ${recipe.name}`, rows: 5, placeholder: 'What is it about this time?', oninput: () => draft.set(input, area.value) });
  area.value = draft.get(input) ?? '';
  place().replaceChildren(h('form', { onsubmit: (event) => { event.preventDefault(); run(recipe, area.value); } },
    h('h3', {}, recipe.name), area, h('p', { class: 'wrong', role: 'alert', hidden: true }),
    h('div', { class: 'ends' },
      h('button', { type: 'button', class: 'button', onclick: paint }, 'Back'),
      h('button', { type: 'submit', class: 'button primary' }, 'Run'))));
  area.focus();
}

async function run(recipe, input) {
  try {
    const job = await call('POST', `recipes/${encodeURIComponent(recipe.id)}/run`, { input }, { timeout: 60000 });
    draft.set(`input.${recipe.id}`, null);
    dialog?.close();
    show(job.chat_id);
    tell('turn');
  } catch (problem) { blame(problem); }
}
