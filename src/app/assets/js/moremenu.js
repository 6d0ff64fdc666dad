// On a phone the buttons at the top right are behind one, as a list with words. Wide, CSS shows them all.
import { $, isPhone } from './dom.js';
import { on, state } from './store.js';

export async function startMoreMenu() {
  await window.desk.part('tools');
  const button = $('#more');
  const menu = $('#more-menu');
  const show = (open) => {
    menu.classList.toggle('open', open);
    button.setAttribute('aria-expanded', String(open));
  };
  // Before anybody else hears of the click: a dialog gives the focus back to who had it, which must be seen then.
  document.addEventListener('click', (event) => {
    if (button.contains(event.target)) { show(!menu.classList.contains('open')); return; }
    if (!menu.classList.contains('open')) return;
    if (menu.contains(event.target)) button.focus();
    show(false);
  }, true);
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape' || !menu.classList.contains('open')) return;
    event.preventDefault();
    show(false);
    button.focus();
  }, true);
  on('jobs', () => button.setAttribute('aria-label', state.jobs.some((job) => job.waits_for) ? 'More, a call waits for you' : 'More'));
  menu.addEventListener('focusout', ({ relatedTarget: to }) => {
    if (isPhone() && to && to !== button && !menu.contains(to)) show(false);
  });
}
