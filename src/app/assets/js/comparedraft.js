// The columns of a new comparison: an agent and a model each, two to four of them, in the order you like.
import { $, $$, h, iconButton, kept } from './dom.js';
import { modelNow, state } from './store.js';

const LEAST = 2;
const MOST = 4;
const PARAMETERS = [
  ['temperature', 'Temperature', { min: 0, max: 2, step: 0.1 }],
  ['top_p', 'Top-p', { min: 0.05, max: 1, step: 0.05 }],
  ['max_tokens', 'Max tokens', { min: 1, max: 1000000, step: 1 }],
];

export function remembered() {
  try { return JSON.parse(kept.get('compare-columns')); } catch { return null; }
}

// What is set for a column, in words.
export const parameterWords = (given) => PARAMETERS.filter(([name]) => given?.[name] !== undefined && given[name] !== null)
  .map(([name, words]) => `${words.toLowerCase()} ${given[name]}`);

// `like`: columns to begin with. `changed` is called when there are others, or in another order.
export function draftColumns({ like, changed }) {
  let columns = (Array.isArray(like) ? like : []).slice(0, MOST)
    .map(({ agent_id = null, model_id = null, parameters = null }) => ({ agent_id, model_id, parameters: parameters && Object.keys(parameters).length ? parameters : null }));
  if (columns.length < LEAST) columns = usual();

  const models = () => (state.models ?? []).filter((model) => model.kind === 'llm');

  function nodes() {
    const made = columns.map(node);
    if (columns.length < MOST) {
      made.push(h('section', { class: 'column adding' }, h('button', { type: 'button', class: 'button', onclick: add }, 'Add a column')));
    }
    return made;
  }

  function node(each, index) {
    const label = `column ${index + 1}`;
    return h('section', { class: 'column drafted', 'aria-label': `Column ${index + 1}` },
      h('header', {},
        h('div', { class: 'top' }, h('b', {}, `Column ${index + 1}`),
          iconButton('before', `Move ${label} to the left`, () => move(index, -1), { disabled: index === 0 }),
          iconButton('after', `Move ${label} to the right`, () => move(index, 1), { disabled: index === columns.length - 1 }),
          iconButton('close', `Remove ${label}`, () => drop(index), { disabled: columns.length === LEAST })),
        field('Agent', `Agent of ${label}`, [['', 'Usual agent'], ...(state.agents ?? []).map((agent) => [agent.id, agent.name])], each.agent_id, (value) => { each.agent_id = value; changed(); }),
        field('Model', `Model of ${label}`, [['auto', 'Auto, picks by task'], ...models().map((model) => [model.full_name, model.name])], each.model_id ?? 'auto', (value) => { each.model_id = value; changed(); })),
      h('div', { class: 'about' }, about(each), parameters(each, label)));
  }

  // What is left empty is as the agent has it.
  function parameters(each, label) {
    return h('details', { open: Boolean(each.parameters) }, h('summary', {}, 'Parameters'),
      h('div', { class: 'numbers' }, PARAMETERS.map(([name, words, range]) => {
        const input = h('input', { type: 'number', 'aria-label': `${words} of ${label}`, placeholder: 'auto', ...range, oninput: () => set(each, name, input) });
        input.value = each.parameters?.[name] ?? '';
        return h('label', { class: 'field' }, h('span', {}, words), input);
      })));
  }

  function set(each, name, input) {
    const { [name]: gone, ...rest } = each.parameters ?? {};
    const value = input.value === '' ? rest : { ...rest, [name]: Number(input.value) };
    each.parameters = Object.keys(value).length ? value : null;
  }

  function about(each) {
    const agent = state.agents?.find((one) => one.id === each.agent_id);
    const model = models().find((one) => one.full_name === each.model_id);
    return [
      model ? h('p', {}, h('b', {}, model.state_words), model.facts.filter(([name]) => name !== 'Provider').slice(0, 3).map(([, value]) => ` · ${value}`)) : null,
      agent?.description ? h('p', {}, agent.description) : null,
      agent?.tools?.length ? h('p', {}, 'Works with tools, and asks before it changes anything.') : null].filter(Boolean);
  }

  function move(index, by) {
    const [each] = columns.splice(index, 1);
    columns.splice(index + by, 0, each);
    changed();
    focus(index + by, by < 0 ? 'left' : 'right');
  }

  function drop(index) { columns.splice(index, 1); changed(); focus(Math.min(index, columns.length - 1)); }

  function add() {
    const taken = new Set(columns.map((each) => each.model_id));
    const free = models().find((model) => !taken.has(model.full_name));
    columns.push({ agent_id: columns.at(-1).agent_id, model_id: free?.full_name ?? columns.at(-1).model_id, parameters: null });
    changed();
    focus(columns.length - 1);
  }

  return {
    nodes,
    names: () => [...columns.map((each, index) => nameOf(each.model_id) ?? `Column ${index + 1}`), ...(columns.length < MOST ? ['Add'] : [])],
    columns: () => columns.map(({ agent_id, model_id, parameters }) => ({ agent_id, model_id: model_id ?? 'auto', parameters })),
    remember: () => kept.set('compare-columns', JSON.stringify(columns)),
  };
}

function usual() {
  const models = (state.models ?? []).filter((model) => model.kind === 'llm' && !model.stale);
  const first = modelNow()?.full_name ?? models[0]?.full_name ?? 'auto';
  const second = models.find((model) => model.full_name !== first && model.loaded) ?? models.find((model) => model.full_name !== first);
  return [first, second?.full_name ?? first].map((model_id) => ({ agent_id: state.agent, model_id, parameters: null }));
}

const nameOf = (id) => state.models?.find((model) => model.full_name === id)?.name ?? null;

function field(words, label, options, value, change) {
  const known = options.some(([option]) => option === (value ?? ''));
  const all = known ? options : [...options, [value, `${value} (not here now)`]];
  return h('label', { class: 'field' }, h('span', {}, words), h('select', { 'aria-label': label, onchange: (event) => change(event.target.value || null) },
    all.map(([option, name]) => h('option', { value: option, selected: option === (value ?? '') }, name))));
}

function focus(index, towards = null) {
  const column = $$('.sheet.compare .column')[index];
  const button = towards ? $(`[aria-label$="to the ${towards}"]:not(:disabled)`, column) : null;
  (button ?? $('select', column))?.focus();
}
