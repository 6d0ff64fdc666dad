// The form of one agent: what is typed is kept at once, and what is amiss is said while one types.
import { $, h, setText } from './dom.js';
import { check, complain, labelled, lines, problems, refusal, text } from './agentsfields.js';
import { create, draftOf, forget, keep, NEW, plain, refresh, save as keepVersion } from './agentsio.js';
import { toolsSection } from './agentstools.js';
import { call } from './http.js';
import { state } from './store.js';

const PAUSE = 350; // after the last key
const FACES = ['💡', '✍️', '🔍', '💻', '📚', '🧮', '🍲', '🌍', '🗂️', '🎨'];
const NEEDS = [['vision', 'See pictures'], ['tools', 'Use tools'], ['reasoning', 'Think before answering']];
const PARAMETERS = [['temperature', 'Temperature', { min: 0, max: 2, step: 0.05 }], ['top_p', 'Top-p', { min: 0.01, max: 1, step: 0.01 }], ['top_k', 'Top-k', { min: 0, max: 1000, step: 1 }], ['max_tokens', 'Max tokens', { min: 1, max: 1000000, step: 1 }]];
const PLANS = [['auto', 'Where the model and its window are large enough'], ['on', 'Always'], ['off', 'Never']];
const LIMITS = [['rounds', 'Rounds', 20, { min: 1, max: 200, step: 1 }], ['tokens', 'Tokens', 200000, { min: 100, max: 10000000, step: 1 }], ['minutes', 'Minutes', 30, { min: 0.1, max: 1440, step: 'any' }], ['result_chars', 'Characters of a result', 32000, { min: 200, max: 2000000, step: 1 }]];

export function agentForm({ id, agent, kit, changed, saved, say, checked, duplicate, recent }) {
  const locked = Boolean(agent?.builtin);
  let { draft, version } = locked ? { draft: plain(agent), version: agent.version } : draftOf(id);
  let dirty = !locked && keep(id, draft, version);
  let timer = 0;
  let asked = 0;
  let told = null;

  const set = (part) => {
    draft = { ...draft, ...part };
    const was = dirty;
    dirty = keep(id, draft, version);
    foot();
    if (was !== dirty || 'name' in part || 'picture' in part || 'description' in part) changed();
    clearTimeout(timer);
    timer = setTimeout(look, PAUSE);
  };
  const fixed = { readonly: locked };
  const name = text(draft.name, { maxlength: 80, ...fixed, oninput: (event) => set({ name: event.target.value }) });
  const picture = text(draft.picture, { maxlength: 16, class: 'picture', ...fixed, oninput: (event) => set({ picture: event.target.value.trim() }) });
  const purpose = text(draft.description, { maxlength: 300, ...fixed, placeholder: 'What it is for, in a sentence', oninput: (event) => set({ description: event.target.value }) });
  const instructions = h('textarea', { rows: 9, maxlength: 100000, ...fixed, oninput: (event) => set({ instructions: event.target.value }) }, draft.instructions);
  const number = (value, range, rest, changed) => h('input', { type: 'number', inputmode: 'decimal', value: value ?? '', placeholder: rest, ...range, ...fixed,
    oninput: (event) => changed(event.target.value === '' ? null : Number(event.target.value)) });

  const form = h('form', { class: 'pane form', novalidate: true, 'aria-label': agent ? agent.name : 'New agent', onsubmit: (event) => { event.preventDefault(); save(); } },
    locked ? h('div', { class: 'banner' }, h('span', {}, 'Built in, so it stays as it is.'), h('button', { type: 'button', class: 'button small primary', onclick: duplicate }, 'Copy to change')) : null,
    h('div', { class: 'named' },
      labelled({ key: 'name', label: 'Name', control: name }),
      labelled({ key: 'picture', label: 'Picture', control: picture }),
      locked ? null : h('div', { class: 'faces', role: 'group', 'aria-label': 'Suggested pictures' },
        FACES.map((each) => h('button', { type: 'button', 'aria-label': `Picture ${each}`, onclick: () => { picture.value = each; set({ picture: each }); } }, each)))),
    labelled({ key: 'description', label: 'Purpose', control: purpose, wide: true }),
    h('div', { class: 'written' },
      labelled({ key: 'instructions', label: 'Instructions', control: instructions, wide: true }),
      h('p', { class: 'cost' }, h('i', { class: 'meter', 'aria-hidden': 'true' }, h('b')), h('span')),
      locked ? null : h('div', { class: 'variables', role: 'group', 'aria-label': 'Insert a variable' }, h('small', {}, 'Insert:'),
        (kit?.variables ?? []).map((each) => h('button', { type: 'button', class: 'chip', title: each.words, 'aria-label': `${each.name}: ${each.words}`, onclick: () => insert(each.name) }, `{{${each.name}}}`)))),
    lines({ key: 'starters', label: 'Starters', hint: 'First messages that an empty chat offers. One that ends in a colon waits for more.', values: draft.starters, most: 6, add: 'Add a starter', one: 'Starter', locked, more: { maxlength: 500 }, changed: (starters) => set({ starters }) }),
    h('datalist', { id: 'agent-model-names' }, (state.models ?? []).filter((each) => each.kind === 'llm').map((each) => h('option', { value: each.full_name }, each.name))),
    lines({ key: 'models', label: 'Models', hint: 'The best first; the next one answers if it fails. A pattern such as *coder* stands for all it fits.', values: draft.models, most: 20, add: 'Add a model', one: 'Model', locked, more: { maxlength: 300, list: 'agent-model-names', spellcheck: 'false', placeholder: 'Name or pattern' }, changed: (models) => set({ models }) }),
    h('fieldset', { class: 'field wide' }, h('legend', {}, 'Its model must'),
      h('div', { class: 'row' }, NEEDS.map(([key, label]) => check(label, draft.needs.includes(key), locked, (on) => set({ needs: NEEDS.map(([each]) => each).filter((each) => (each === key ? on : draft.needs.includes(each))) })))),
      h('div', { class: 'notes', role: 'status' }, problems('needs'))),
    h('fieldset', { class: 'field wide' }, h('legend', {}, 'Parameters'),
      h('div', { class: 'numbers' }, PARAMETERS.map(([key, label, range]) => labelled({ key: `parameters.${key}`, label, control: number(draft.parameters[key], range, 'auto', (value) => set({ parameters: { ...draft.parameters, [key]: value } })) })))),
    toolsSection({ kit, draft, locked, changed: (tools) => set({ tools }) }),
    labelled({ key: 'plan', label: 'Running plan', hint: 'A short list of what it will do and how far it is, which you see while it works with tools. Costs about 170 tokens in each request.', wide: true,
      control: h('select', { disabled: locked, onchange: (event) => set({ plan: event.target.value }) }, PLANS.map(([value, words]) => h('option', { value, selected: value === draft.plan }, words))) }),
    h('details', { class: 'more' }, h('summary', {}, 'Limits and strictness'),
      h('p', { class: 'said' }, 'Where a run with tools ends by itself, and how much of a result the model gets. You always see all of it.'),
      h('div', { class: 'numbers' }, LIMITS.map(([key, label, rest, range]) => labelled({ key: `limits.${key}`, label, control: number(draft.limits[key], range, String(rest), (value) => set({ limits: { ...draft.limits, [key]: value ?? rest } })) }))),
      check('An answer from another model counts as a failure', draft.strict, locked, (strict) => set({ strict }), 'Some servers answer with whatever is loaded.')),
    h('div', { class: 'foot' }, problemsAtFoot(), h('div', { class: 'conflict', role: 'alert' }),
      locked ? null : [h('span', { class: 'unsaved', role: 'status' }),
        h('button', { type: 'button', class: 'button discard', onclick: () => { forget(id); recent(); } }, 'Discard'),
        h('button', { type: 'submit', class: 'button primary' }, 'Save')]));

  function problemsAtFoot() {
    const place = problems('rest');
    place.classList.add('rest');
    return place;
  }

  function insert(variable) {
    const at = document.activeElement === instructions ? instructions.selectionStart : instructions.selectionEnd;
    instructions.setRangeText(`{{${variable}}}`, instructions.selectionStart ?? at, instructions.selectionEnd ?? at, 'end');
    instructions.focus();
    set({ instructions: instructions.value });
  }

  function foot() {
    if (locked) return;
    setText($('.unsaved', form), dirty ? 'Not saved yet' : '');
    $('.discard', form).hidden = !dirty;
    $('[type=submit]', form).classList.toggle('primary', dirty || id === NEW);
  }

  // What is amiss, and what the instructions cost.
  async function look() {
    clearTimeout(timer);
    const number = ++asked;
    try {
      told = await call('POST', 'agents/check', { ...draft, name: draft.name.trim() || 'Agent' });
      if (number !== asked || !form.isConnected) return;
      complain(form, told.problems);
      const cost = $('.cost', form);
      setText($('span', cost), told.cost);
      cost.classList.toggle('over', told.over);
      $('.meter', cost).hidden = told.share === null;
      $('b', cost).style.width = `${Math.min(1, told.share ?? 0) * 100}%`;
      checked(told);
    } catch (problem) {
      if (number === asked && !problem.offline) complain(form, [refusal(problem)]);
    }
  }

  async function save() {
    if (locked) return;
    if (!draft.name.trim()) { complain(form, [{ field: 'name', message: 'Give it a name.' }], { at: true }); return; }
    if (!dirty && id !== NEW) { say('There is nothing new to save.'); return; }
    const button = $('[type=submit]', form);
    button.disabled = true;
    say('');
    conflict('');
    try {
      const made = id === NEW ? await create(draft) : await keepVersion(id, draft, version);
      done(made);
    } catch (problem) {
      if (problem.code === 'agent_changed' || problem.code === 'agent_not_found') await refused(problem);
      else complain(form, [refusal(problem)], { at: true });
    }
    button.disabled = false;
  }

  function done(made) {
    const words = made.name === draft.name.trim() ? `${made.name} is saved${made.version > 1 ? ` as version ${made.version}` : ''}.` : `There is a ${draft.name.trim()} already, so this one is ${made.name}.`;
    forget(id);
    if (made.id !== id) { saved(made, words); return; }
    draft = plain(made);
    version = made.version;
    name.value = made.name;
    dirty = false;
    foot();
    changed();
    say(words);
  }

  // Somebody else changed or deleted it meanwhile. Nothing typed here is lost.
  async function refused(problem) {
    try { await refresh(); } catch { /* what is shown is still true */ }
    const gone = problem.code === 'agent_not_found';
    conflict(gone ? `${draft.name} was deleted meanwhile.` : problem.message,
      h('button', { type: 'button', class: 'button small', onclick: apart }, gone ? 'Save as a new agent' : 'Save as a copy'),
      gone ? null : h('button', { type: 'button', class: 'button small', onclick: () => { forget(id); recent(); } }, 'Load the newer one'));
    $('.conflict button', form).focus();
  }

  async function apart() {
    try {
      const made = await create(draft);
      forget(id);
      saved(made, `Saved as ${made.name}.`);
    } catch (problem) { complain(form, [refusal(problem)], { at: true }); }
  }

  function conflict(words, ...buttons) {
    $('.conflict', form).replaceChildren(...(words ? [h('p', {}, words), ...buttons.filter(Boolean)] : []));
  }

  foot();
  queueMicrotask(look);
  return {
    node: form,
    draft: () => ({ ...draft, name: draft.name.trim() || 'Agent' }),
    wanted: () => (draft.models.length && told?.model_id ? told.model_id : state.model),
    dirty: () => dirty,
    save,
  };
}
