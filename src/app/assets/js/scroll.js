// Follows the end of the conversation unless the reader scrolled up.
import { $, appear } from './dom.js';

let stick = true;
let scroller = null;
let follow = null;

export async function startScroll() {
  await Promise.all(['welcome', 'phase', 'composer'].map(window.desk.part));
  await Promise.all(['#hist', '#live'].map(appear));
  scroller = $('#scroller');
  scroller.tabIndex = 0;
  scroller.setAttribute('role', 'region');
  scroller.setAttribute('aria-label', 'Conversation');
  const button = $('#to-bottom');
  let before = 0;
  scroller.addEventListener('scroll', () => {
    const gap = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight;
    // Growing text scrolls by itself; only a move upwards is the reader's.
    if (scroller.scrollTop < before - 2 && gap > 40) stick = false;
    if (gap <= 40) stick = true;
    before = scroller.scrollTop;
    button.hidden = gap < 240;
  }, { passive: true });
  button.addEventListener('click', () => scrollToEnd({ stick: true }));
  follow = new ResizeObserver(() => { if (stick) scroller.scrollTop = scroller.scrollHeight; });
  for (const child of scroller.children) follow.observe(child);
  follow.observe(scroller);
}

// So that what is shown stays where it is, whatever grows below.
export const letGo = () => { stick = false; };

// Of a part that is made later.
export const watchGrowth = (part) => { follow?.observe(part); };

export function scrollToEnd({ stick: hold = false } = {}) {
  if (hold) stick = true;
  if (scroller) scroller.scrollTop = scroller.scrollHeight;
}
