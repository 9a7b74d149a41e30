// The application's own page in a frame, through Jupyter's door: signed in as the notebook is.

const AWAY = 3000; // ms out of sight before the page gives its connection back: a browser has six

/** Jupyter's base URL as its page tells it; null outside of Jupyter's own interfaces. */
function baseUrl() {
  try {
    return JSON.parse(document.getElementById("jupyter-config-data").textContent).baseUrl ?? null;
  } catch {
    return null;
  }
}

/** Tell `change` when the node has been out of sight for a while, and when it is seen again. */
function whileSeen(node, change) {
  let seen = false;
  let timer = 0;
  const observer = new IntersectionObserver((entries) => {
    const now = entries.at(-1).isIntersecting;
    clearTimeout(timer);
    if (now && !seen) change((seen = true));
    if (!now && seen) timer = setTimeout(() => change((seen = false)), AWAY);
  });
  observer.observe(node);
  return () => { clearTimeout(timer); observer.disconnect(); };
}

function render({ model, el }) {
  const { door, url, height, lines } = model.get("state");
  const base = baseUrl();
  const address = base === null ? url : new URL(base.replace(/\/*$/, "/") + door, location.href).href;
  const bar = make("div", { class: "lk-bar" }, make("h3", {}, "The application's page"));
  const root = make("section", { class: "lk lk-page", "aria-label": "The application's page" }, bar);
  if (address) {
    const link = make("a", { href: address, target: "_blank", rel: "noopener" }, "Open in a tab of its own");
    bar.append(link);
  }
  el.append(root);
  if (base === null) { // a notebook outside of Jupyter has no such door
    root.append(make("pre", {}, lines.join("\n")));
    return () => {};
  }
  const frame = make("iframe", { title: "The application's page, live" });
  const box = make("div", { class: "lk-frame" }, frame);
  box.style.height = `${height}px`;
  root.append(box);
  return whileSeen(box, (seen) => { frame.src = seen ? address : "about:blank"; });
}

export default { render };
