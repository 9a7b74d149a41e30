// What every view's module begins with (see base.py): making elements, changing their text.

/** An element; attributes named on… are listeners, those and children that are null are left out. */
function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  // JupyterLab's own keys (Enter, arrows, d d) would else go to the notebook's cell.
  if (/^(button|input|summary|pre)$/.test(tag)) node.dataset.lmSuppressShortcuts = "true";
  node.append(...children.filter((child) => child !== null));
  return node;
}

/** Change a text only where it is another: what is announced is what has changed. */
const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

