// The form of a new run outside of chats: a task, who works on it, with which tools, how far.
import { $, $$, h, setText } from './dom.js';
import { draft } from './drafts.js';
import { call } from './http.js';
import { state } from './store.js';

// Which field a refusal is about.
const FIELDS = [
  [/^(task_empty|message_too_long|task)$/, 'task'],
  [/^(no_tools|tool_.*|servers.*)$/, 'servers'],
  [/^(model.*|no_model_fits|ambiguous.*|provider_.*)$/, 'model'],
  [/^agent/, 'agent_id'],
];
const LIMITS = [
  { name: 'max_rounds', label: 'Steps', least: 1, most: 200, usual: 20 },
  { name: 'max_tokens', label: 'Tokens', least: 100, most: 10000000, usual: 200000 },
  { name: 'max_minutes', label: 'Minutes', least: 1, most: 1440, usual: 30 },
];

// `like`: a run to do again. `started` is called with the run's id, `discarded` once what was typed is thrown away.
export function runForm({ like, agent, started, discarded }) {
  const name = `run.${like?.id ?? 'new'}`;
  const typed = draft.get(name);
  const chosen = new Set(typed?.servers ?? like?.servers ?? []);
  const servers = h('div', { class: 'servers' }, h('p', { class: 'note', role: 'status' }, 'Looking for tool servers…'));
  const modes = h('div', { class: 'modes' });
  const model = h('select', { id: 'run-model' }, h('option', { value: 'auto' }, 'Auto: picks one that can use tools'),
    (state.models ?? []).filter((each) => each.kind === 'llm' && !each.stale).map((each) => h('option', { value: each.full_name }, `${each.loaded ? '● ' : ''}${each.name}`)));
  const wanted = typed?.model ?? state.model;
  model.value = [...model.options].some((each) => each.value === wanted) ? wanted : 'auto';
  const who = h('select', { id: 'run-agent', onchange: () => hint() }, h('option', { value: '' }, 'None: a model and the tools below'),
    (state.agents ?? []).map((each) => h('option', { value: each.id }, `${each.picture} ${each.name}`.trim())));
  who.value = typed ? typed.agent_id : like?.agent_id ?? (agent?.tools?.length ? agent.id : '');
  if (who.selectedIndex < 0) who.value = '';
  const task = h('textarea', { id: 'run-task', class: 'textarea', rows: 4, required: true, placeholder: 'Say what is to be done, and what the result should be.' });
  task.value = typed?.task ?? like?.task ?? '';
  const rest = h('small', { class: 'rest' });
  const general = h('p', { class: 'wrong', role: 'alert', hidden: true });
  const start = h('button', { type: 'submit', class: 'button primary' }, 'Start');
  const away = h('button', { type: 'button', class: 'button', hidden: !typed, onclick: () => { draft.set(name, null); discarded(); } }, 'Discard');
  const form = h('form', { class: 'new pane', novalidate: true, 'aria-label': 'New run' },
    field('task', 'Task', task),
    h('div', { class: 'pair' }, field('agent_id', 'Agent', who), field('model', 'Model', model)),
    h('fieldset', { class: 'field', 'data-field': 'servers' }, h('legend', {}, 'Tool servers'), rest, servers, wrongLine('servers')),
    h('fieldset', { class: 'field', 'data-field': 'approve' }, h('legend', {}, 'What you are asked about'), modes, wrongLine('approve')),
    h('fieldset', { class: 'field' }, h('legend', {}, 'Limits'), h('div', { class: 'limits' }, LIMITS.map(limit))),
    general,
    h('div', { class: 'go' }, start, away));
  for (const input of numbers()) input.value = typed?.limits?.[input.name] ?? '';
  form.addEventListener('submit', (event) => { event.preventDefault(); send(); });
  form.addEventListener('input', keep);
  hint();
  fill();

  function hint() {
    const given = state.agents?.find((each) => each.id === who.value)?.tools ?? [];
    const names = [...new Set(given.map((each) => each.server))];
    setText(rest, names.length ? `None ticked: those of the agent, ${names.join(', ')}.` : '');
    rest.hidden = !names.length;
  }

  function numbers() { return LIMITS.map((each) => $(`[name=${each.name}]`, form)); }

  // Esc, a click beside the dialog, a reload: it is here again next time.
  function keep() {
    const limits = Object.fromEntries(numbers().filter((input) => input.value).map((input) => [input.name, input.value]));
    const some = task.value.trim() || Object.keys(limits).length;
    draft.set(name, some ? { task: task.value, agent_id: who.value, model: model.value, servers: [...chosen], approve: approval() ?? typed?.approve, limits } : null);
    away.hidden = !some;
  }

  function approval() { return $('input[name=approve]:checked', form)?.value ?? null; }

  async function fill() {
    try {
      const kit = await call('GET', 'runs/kit');
      servers.replaceChildren(...(kit.servers.length ? kit.servers.map(box) : [h('p', { class: 'note' }, 'There are none yet.')]),
        ...kit.problems.map((words) => h('p', { class: 'wrong' }, words)),
        kit.servers.some((each) => each.usable) ? '' : h('button', { type: 'button', class: 'button small', 'data-act': 'toolservers', 'aria-haspopup': 'dialog', onclick: comeBack }, 'Open the Tools panel'));
      const approve = approval() ?? typed?.approve;
      modes.replaceChildren(...kit.modes.map(({ mode, name, words }) => h('label', { class: 'check' },
        radio(mode, approve), h('span', {}, name, h('small', {}, words)))));
    } catch (problem) { servers.replaceChildren(h('p', { class: 'wrong', role: 'alert' }, `${problem.message} ${problem.hint ?? ''}`)); }
  }

  // Whoever trusted a server in the panel finds it here.
  function comeBack() {
    document.addEventListener('close', () => { if (form.isConnected) fill(); }, { capture: true, once: true });
  }

  function radio(mode, approve) {
    const input = h('input', { type: 'radio', name: 'approve', value: mode });
    input.checked = mode === (approve ?? 'read-only');
    return input;
  }

  function box(server) {
    const input = h('input', { type: 'checkbox', name: 'servers', value: server.name, disabled: !server.usable, oninput: () => { if (input.checked) chosen.add(server.name); else chosen.delete(server.name); } });
    input.checked = server.usable && chosen.has(server.name);
    return h('label', { class: 'check' }, input, h('span', {}, server.name, h('small', {}, server.words), server.problem ? h('small', { class: 'bad' }, server.problem) : null));
  }

  async function send() {
    blame(null, '');
    const asked = {
      task: task.value,
      agent_id: who.value || null,
      model: model.value,
      servers: $$('input[name=servers]:checked', form).map((each) => each.value),
      approve: approval(),
    };
    for (const { name, label, least, most } of LIMITS) {
      const input = $(`[name=${name}]`, form);
      if (!input.value && !input.validity.badInput) continue;
      const value = Number(input.value);
      if (input.validity.badInput || !(value >= least && value <= most) || (name !== 'max_minutes' && !Number.isInteger(value))) {
        blame(name, `${label} must be a number from ${least.toLocaleString('en')} to ${most.toLocaleString('en')}.`);
        return;
      }
      asked[name] = value;
    }
    if (!asked.task.trim()) { blame('task', 'The task is empty. Say what is to be done.'); return; }
    if (!asked.servers.length && !asked.agent_id) { blame('servers', 'Tick a tool server, or choose an agent that has tools.'); return; }
    start.disabled = true;
    setText(start, 'Starting…');
    try {
      const { run_id: id } = await call('POST', 'runs', asked, { timeout: 0 });
      if (task.value === asked.task) draft.set(name, null);
      if (form.isConnected) started(id);
    } catch (problem) {
      const place = problem.parameter ?? FIELDS.find(([codes]) => codes.test(problem.code ?? ''))?.[1] ?? null;
      blame(place, `${problem.message} ${problem.hint ?? ''}`.trim());
    } finally {
      start.disabled = false;
      setText(start, 'Start');
    }
  }

  // Says it at the field, and goes there.
  function blame(name, words) {
    for (const line of $$('.wrong[data-for]', form)) line.hidden = true;
    for (const input of $$('[aria-invalid]', form)) input.removeAttribute('aria-invalid');
    general.hidden = true;
    if (!words) return;
    const line = $(`.wrong[data-for="${CSS.escape(String(name))}"]`, form) ?? general;
    line.hidden = false;
    setText(line, words);
    const input = $(`[data-field="${CSS.escape(String(name))}"] :is(textarea, select, input:not(:disabled))`, form);
    input?.setAttribute('aria-invalid', 'true');
    (input ?? start).focus();
  }

  return form;
}

const wrongLine = (name) => h('p', { class: 'wrong', id: `run-${name}-wrong`, 'data-for': name, role: 'alert', hidden: true });

function field(name, label, input) {
  input.setAttribute('aria-describedby', `run-${name}-wrong`);
  return h('div', { class: 'field', 'data-field': name }, h('label', { for: input.id }, label), input, wrongLine(name));
}

const limit = ({ name, label, least, most, usual }) => field(name, label, h('input', { type: 'number', id: `run-${name}`, name, min: least, max: most, step: name === 'max_tokens' ? 100 : 1, inputmode: 'numeric', placeholder: usual.toLocaleString('en') }));
