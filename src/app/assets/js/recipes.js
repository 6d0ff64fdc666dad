// Recipes: tasks in steps, each by its own agent and model. The list, the form, and carrying one out in a chat.
import { $, $$, h, iconButton, setText } from './dom.js';
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
  } catch (problem) { place().replaceChildren(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`)); return; }
  chosen = recipes.find((each) => each.id === id) ?? null;
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
    h('button', { type: 'button', class: 'pick', onclick: () => choose(recipe) }, h('b', {}, recipe.name), h('small', {}, recipe.description || who)),
    h('button', { type: 'button', class: 'button small primary', onclick: () => ask(recipe) }, 'Run'));
}

function choose(recipe) {
  chosen = structuredClone(recipe);
  paint();
  $('input', place()).focus();
}

// The form

function form() {
  return [h('form', { novalidate: true, onsubmit: (event) => { event.preventDefault(); save(); } },
    h('label', { class: 'field' }, h('span', {}, 'Name'), h('input', { name: 'name', value: chosen.name, maxlength: 80, required: true, oninput: set('name') })),
    h('label', { class: 'field' }, h('span', {}, 'Purpose'), h('input', { name: 'description', value: chosen.description, maxlength: 300, oninput: set('description') })),
    h('ol', { class: 'steps' }, chosen.steps.map(step)),
    h('p', { class: 'note' }, '{{input}} is what you type when you run it, {{previous}} the answer before, {{step 1}} that of the first step.'),
    h('p', { class: 'wrong', role: 'alert', hidden: true }),
    h('div', { class: 'ends' },
      h('button', { type: 'button', class: 'button', onclick: () => { chosen = null; paint(); } }, 'Back'),
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
  return h('select', { 'aria-label': label, onchange: (event) => change(event.target.value || null) },
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
  paint();
  $$('.steps > li', place())[index + by].querySelector('textarea').focus();
}

function drop(index) { chosen.steps.splice(index, 1); paint(); }

function add() {
  chosen.steps.push({ prompt: '{{previous}}', agent_id: null, model: null });
  paint();
  $$('.steps textarea', place()).at(-1).focus();
}

async function save() {
  const body = { name: chosen.name.trim(), description: chosen.description.trim(), steps: chosen.steps };
  try {
    const kept = chosen.id
      ? await call('PUT', `recipes/${encodeURIComponent(chosen.id)}`, { ...body, version: chosen.version })
      : await call('POST', 'recipes', body);
    toast(`${kept.name} is saved.`);
    await reload();
  } catch (problem) {
    const line = $('.wrong', place());
    line.hidden = false;
    setText(line, `${problem.message} ${problem.hint ?? ''}`);
  }
}

async function remove() {
  const gone = chosen;
  try {
    await call('DELETE', `recipes/${encodeURIComponent(gone.id)}`);
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
  const area = h('textarea', { 'aria-label': `Input for ${recipe.name}`, rows: 5, placeholder: 'What is it about this time?' });
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
    dialog?.close();
    show(job.chat_id);
    tell('turn');
  } catch (problem) {
    const line = dialog && $('.wrong', place());
    if (!line) { fail(problem); return; }
    line.hidden = false;
    setText(line, `${problem.message} ${problem.hint ?? ''}`);
  }
}
