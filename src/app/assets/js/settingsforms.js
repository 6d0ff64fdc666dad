// Settings, all but the providers: forms that are saved as a whole.
import { $, h, setText } from './dom.js';
import { choice, complain, field, line, listOf, meant, patch, told } from './settingsio.js';
import { state } from './store.js';

const TASKS = [['coding', 'Coding'], ['research', 'Research'], ['creative', 'Creative writing'], ['analysis', 'Analysis'], ['general', 'Everything else']];
const setting = (key) => told.view.settings[key];

// A form whose fields come from the settings: painted anew when those change and nothing is typed in it.
function panel({ saved, label, parts, read, words }) {
  const form = h('form', { class: 'panel', novalidate: true, 'aria-label': label, onsubmit: (event) => { event.preventDefault(); save(); } });
  let shown = '';

  function paint() {
    const key = JSON.stringify([told.view.settings, told.view.providers.map((each) => [each.name, each.title, each.is_remote, each.hosts]), state.models?.map((each) => each.full_name)]);
    if (key === shown || dirty()) return;
    shown = key;
    const focused = form.contains(document.activeElement) ? document.activeElement.id : '';
    form.replaceChildren(...parts(), h('div', { class: 'foot' }, h('p', { class: 'wrong', role: 'alert' }), h('span', { class: 'unsaved', role: 'status' }), h('button', { type: 'submit', class: 'button primary', disabled: true }, 'Save')));
    if (focused) document.getElementById(focused)?.focus();
  }

  const dirty = () => Boolean(form.dataset.dirty);
  form.addEventListener('input', () => {
    form.dataset.dirty = 'yes';
    setText($('.unsaved', form), 'Not saved yet');
    $('[type=submit]', form).disabled = false;
  });

  async function save() {
    complain(form, null);
    $('[type=submit]', form).disabled = true;
    try {
      const changes = nested(Object.entries(read(form)).filter(([key, value]) => value !== undefined && !same(value, setting(key).value)));
      const undo = Object.keys(changes).length ? await patch(changes) : null;
      delete form.dataset.dirty;
      shown = '';
      paint();
      saved(words, undo);
    } catch (problem) {
      complain(form, problem);
      $('[type=submit]', form).disabled = false;
    }
  }

  paint();
  return { node: form, paint, dirty, save };
}

// A box of names and patterns that says which of them nothing is called now.
function names(key, label, hint) {
  const box = line((setting(key).value ?? []).join(', '), { placeholder: 'No wish' });
  const made = field({ key, label, hint, control: box, locked: setting(key).reason });
  const note = h('small', { class: 'unknown' });
  $('.notes', made).prepend(note);
  const look = () => setText(note, meant(box.value));
  box.addEventListener('input', look);
  look();
  return made;
}

const listIn = (form, key) => {
  const box = $(`[data-key="${key}"]`, form);
  return box.disabled ? undefined : listOf(box.value);
};
// Nothing is nothing, however it is written; a default that is left as it was is not written down.
const plain = (value) => (value === null || value?.length === 0 ? 'null' : JSON.stringify(value));
const same = (one, other) => plain(one) === plain(other);

// {models: {default: …}} from [['models.default', …]].
function nested(entries) {
  const all = {};
  for (const [key, value] of entries) {
    const parts = key.split('.');
    const last = parts.pop();
    let place = all;
    for (const part of parts) place = place[part] ??= {};
    place[last] = value?.length === 0 ? null : value;
  }
  return all;
}

export function modelsPanel({ saved }) {
  return panel({ saved, label: 'Models', parts, read, words: 'Saved. It counts from the next question.' });

  function parts() {
    const now = setting('models.default').value;
    const models = (state.models ?? []).filter((each) => each.kind === 'llm');
    const options = [['auto', 'Auto: the best for each question'], ...models.map((each) => [each.full_name, `${each.name} (${each.full_name.slice(0, each.full_name.indexOf(':'))})`])];
    if (!options.some(([key]) => key === now)) options.push([now, `${now} (not here now)`]);
    return [
      h('p', { class: 'said' }, 'Which model is taken where you have not picked one.'),
      field({ key: 'models.default', label: 'Model', control: choice(options, now), locked: setting('models.default').reason }),
      h('fieldset', {}, h('legend', {}, 'What Auto likes best'),
        h('p', { class: 'said' }, 'Names of models with commas between, the best first. * stands for anything: *coder*'),
        TASKS.map(([task, label]) => names(`models.preferences.${task}`, label, ''))),
      fallback(),
    ];
  }

  function fallback() {
    const remote = told.view.providers.filter((each) => each.is_remote);
    const { value, reason } = setting('fallback.remote');
    return h('fieldset', { class: 'fallback' }, h('legend', {}, 'When no model of yours can answer'),
      remote.length
        ? remote.map((each) => {
          const id = `ask-${each.name}`;
          return h('div', { class: 'consent' },
            h('input', { type: 'checkbox', id, value: each.name, checked: value.includes(each.name), disabled: Boolean(reason), 'aria-describedby': `${id}-means` }),
            h('label', { for: id }, `Ask ${each.title}`),
            h('p', { id: `${id}-means` }, `Then your question, the conversation before it and the agent's instructions are sent to ${each.hosts.join(', ')}, to somebody else's computer. The answer says when that happened.`));
        })
        : h('p', { class: 'said' }, 'No remote provider is set up, so nothing leaves your machines.'),
      reason ? h('small', { class: 'locked', 'data-icon': 'lock' }, reason) : null,
      h('small', { class: 'wrong', role: 'alert' }));
  }

  function read(form) {
    const box = $('[data-key="models.default"]', form);
    const boxes = [...form.querySelectorAll('.consent input')];
    const { value, reason } = setting('fallback.remote');
    const others = value.filter((name) => !boxes.some((each) => each.value === name));
    return {
      'models.default': box.disabled ? undefined : box.value,
      ...Object.fromEntries(TASKS.map(([task]) => [`models.preferences.${task}`, listIn(form, `models.preferences.${task}`)])),
      'fallback.remote': reason || !boxes.length ? undefined : [...others, ...boxes.filter((each) => each.checked).map((each) => each.value)],
    };
  }
}

export function startPanel({ saved }) {
  return panel({ saved, label: 'Start and memory', parts, read, words: 'Saved.' });

  function parts() {
    const box = (key, label, hint, control) => field({ key, label, hint, control, locked: setting(key).reason });
    return [
      box('on_start', 'When LM Desk starts', 'Counts from the next start.', choice([['reconnect', 'Use the models that are loaded'], ['last', 'And load the last one again, if none is'], ['nothing', 'Pick nothing; I do']], setting('on_start').value)),
      box('idle_unload_minutes', 'Unload after', 'Minutes in which a model that LM Desk loaded was not used. Empty: never.', h('input', { type: 'number', min: 1, step: 'any', value: setting('idle_unload_minutes').value ?? '', placeholder: 'Never' })),
      box('keep_models_within', 'Keep models within', 'Memory for all models together, such as 12GiB. Beyond it the longest unused goes. Empty: no limit.', line(setting('keep_models_within').value, { placeholder: 'No limit', maxlength: 30 })),
      names('pinned_models', 'Never unload', 'Names of models with commas between.'),
    ];
  }

  function read(form) {
    const text = (key) => {
      const box = $(`[data-key="${key}"]`, form);
      return box.disabled ? undefined : box.value.trim() || null;
    };
    const minutes = text('idle_unload_minutes');
    return {
      on_start: text('on_start'),
      idle_unload_minutes: minutes ? Number(minutes) : minutes,
      keep_models_within: text('keep_models_within'),
      pinned_models: listIn(form, 'pinned_models'),
    };
  }
}

export function agentsPanel({ saved }) {
  return panel({ saved, label: 'Agents and tools', parts, read, words: 'Saved.' });

  function parts() {
    const number = (key, label, hint, more) => field({ key, label, hint, control: h('input', { type: 'number', value: setting(key).value, ...more }), locked: setting(key).reason });
    return [
      number('approval_minutes', 'Wait for your yes', 'Minutes a call waits for you before it counts as denied. Counts for runs that begin from now on.', { min: 0.1, max: 1440, step: 'any' }),
      number('runs.keep_days', 'Keep runs for', 'Days. Runs in a chat stay as long as the chat. 0: for ever.', { min: 0, max: 36500, step: 1 }),
      number('tools.idle_minutes', 'End tool servers after', 'Minutes in which nobody used them; the next call starts them again. 0: never.', { min: 0, max: 1000000, step: 'any' }),
      number('tools.max_running', 'Tool servers at once', 'One more ends the one that was unused the longest.', { min: 1, max: 1000, step: 1 }),
    ];
  }

  function read(form) {
    const keys = ['approval_minutes', 'runs.keep_days', 'tools.idle_minutes', 'tools.max_running'];
    return Object.fromEntries(keys.map((key) => {
      const box = $(`[data-key="${key}"]`, form);
      // Nothing written in it is the default again.
      return [key, box.disabled ? undefined : box.value === '' ? null : Number(box.value)];
    }));
  }
}
