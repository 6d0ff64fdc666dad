// Who answers in a column: its model and its agent, and whether it is asked the next question. A deleted agent comes back here.
import { h } from './dom.js';
import { path, restore } from './agentsio.js';
import { parameterWords } from './comparedraft.js';
import { call } from './http.js';
import { agentName, isDeleted } from './store.js';
import { fail, toast } from './toasts.js';

// Whom the next question goes to can be left out, column by column; whom nobody can ask is left out to begin with.
export function whoAnswers(each, { ticked = true } = {}) {
  const gone = isDeleted(each.agent_id);
  const label = h('label', { class: 'who' }, h('input', { type: 'checkbox', checked: ticked && !gone, title: 'Ask this column the next question', 'aria-label': `Ask column ${each.number} the next question` }),
    h('span', {}, h('b', {}, each.name), h('small', {}, [agentName(each.agent_id), ...parameterWords(each.parameters)].join(' · '))));
  return h('div', { class: 'whose', 'data-agent': agentName(each.agent_id) }, label,
    gone ? h('button', { type: 'button', class: 'button small', 'aria-label': `Bring back the agent of column ${each.number}`, onclick: (event) => bringBack(event.currentTarget, each.agent_id) }, 'Bring back') : null);
}

async function bringBack(button, id) {
  button.disabled = true;
  try {
    const [newest] = await call('GET', `${path(id)}/versions`);
    const agent = await restore(id, newest.version);
    toast(`${agent.name} is back.`);
  } catch (problem) { button.disabled = false; fail(problem); }
}
