// What scrolls can be scrolled by keyboard: a region that is wider or longer than its frame takes the focus.
addEventListener("load", () => {
  for (const e of document.querySelectorAll(".cell_output .text_html, .cell_output .output, .vega-embed, mjx-container, div.math"))
    if ((e.scrollWidth > e.clientWidth + 1 || e.scrollHeight > e.clientHeight + 1) && !e.hasAttribute("tabindex"))
      if (/auto|scroll/.test(getComputedStyle(e).overflow)) e.tabIndex = 0;
});
