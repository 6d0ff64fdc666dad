// Repairs of Gradio's own markup for people who use a screen reader; each is one finding of axe.
import { $, $$ } from './dom.js';

export function startRepairs() {
  let asked = 0;
  const soon = () => { asked ||= requestAnimationFrame(() => { asked = 0; repair(); }); };
  new MutationObserver(soon).observe(document.body, { childList: true, subtree: true });
  repair();
}

function repair() {
  for (const title of $$('#scroller .thought-group > .title[role=button]')) {
    const button = $('button', title);
    if (!button) continue;
    title.removeAttribute('role');
    title.removeAttribute('tabindex');
    button.setAttribute('aria-label', 'Show or hide the thoughts');
  }
  for (const place of $$('#scroller .placeholder-content[role=complementary]')) place.removeAttribute('role');
  // The text is there to be read; the label repeats it, with its entities shown.
  for (const row of $$('#scroller [data-testid=user][aria-label], #scroller [data-testid=bot][aria-label]')) row.removeAttribute('aria-label');
  // Twenty updates a second must not be read out; the finished answer arrives once, above.
  const live = $('#live [role=log]');
  if (live && live.getAttribute('aria-live') !== 'off') live.setAttribute('aria-live', 'off');
}
