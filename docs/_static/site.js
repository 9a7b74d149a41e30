// What the theme leaves out for whoever uses a keyboard or listens: wide boxes can be reached
// and scrolled, and the sidebar's captions say which heading they are.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .text_html, .text_html div")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) {
    caption.setAttribute("aria-level", "2");
  }
});
