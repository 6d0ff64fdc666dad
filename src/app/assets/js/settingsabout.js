// Settings, About: where the file is, how much is logged, and every setting with where it comes from.
import { $, h, setText } from './dom.js';
import { choice, complain, field, patch, told } from './settingsio.js';

const LEVELS = [['debug', 'Everything'], ['info', 'What happens'], ['warning', 'What is odd'], ['error', 'Only failures']];

export function aboutPanel({ saved }) {
  const node = h('div', { class: 'panel' });
  let shown = '';

  function paint() {
    const { settings, file, file_exists: there, version } = told.view;
    const key = JSON.stringify([settings, file, there]);
    if (key === shown) return;
    shown = key;
    const open = $('details', node)?.open;
    const level = choice(LEVELS, settings.log_level.value);
    level.addEventListener('change', () => log(level));
    node.replaceChildren(
      h('dl', { class: 'facts' },
        h('div', {}, h('dt', {}, 'LM Desk'), h('dd', {}, version)),
        h('div', {}, h('dt', {}, 'Settings file'), h('dd', {}, h('code', {}, file), there ? '' : h('small', {}, 'Made when you change something here.')))),
      h('p', { class: 'said' }, 'Arguments come first, then the environment, then .env, then this file. Comments in it stay, and what you change there with an editor counts at once.'),
      h('form', { novalidate: true, onsubmit: (event) => event.preventDefault() },
        field({ key: 'log_level', label: 'Log', hint: 'Logs go to where LM Desk was started.', control: level, locked: settings.log_level.reason })),
      h('details', { open }, h('summary', {}, 'Every setting'), table(settings)));
  }

  async function log(level) {
    complain(level.form, null);
    try {
      saved('Saved.', await patch({ log_level: level.value === 'info' ? null : level.value }));
    } catch (problem) { complain(level.form, problem); }
  }

  paint();
  return { node, paint };
}

function table(settings) {
  const cell = (text, more) => { const made = h('td', more); setText(made, text); return made; };
  return h('div', { class: 'scroll', role: 'region', tabindex: 0, 'aria-label': 'Every setting' },
    h('table', {},
      h('thead', {}, h('tr', {}, ['Setting', 'Value', 'From'].map((each) => h('th', { scope: 'col' }, each)))),
      h('tbody', {}, Object.entries(settings).map(([key, each]) => h('tr', {},
        h('th', { scope: 'row', title: each.description }, h('code', {}, key)),
        cell(each.waiting ? `${each.words} (after a restart)` : each.words), cell(each.origin))))));
}
