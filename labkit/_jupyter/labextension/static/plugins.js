// JupyterLab around the lab: the application's page as a panel, Vault's own interface,
// both in the Launcher, and in the status bar how the lab is.
// A plain module: what it needs of JupyterLab comes from `shared` (remoteEntry.js).

const CATEGORY = "Secrets lab";
const EVERY = 10_000; // milliseconds between two looks at the lab, while somebody looks
const SOON = 1_500; // after a cell was run: it may have changed the lab
const AWAY = 3_000; // a page nobody sees gives its connection back: a browser has six

const icon = (body) =>
  `<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><g class="jp-icon3" style="fill:none" stroke="#616161" stroke-width="2" stroke-linecap="round" stroke-linejoin="round">${body}</g></svg>`;
const PAGE = icon('<rect x="3" y="4" width="18" height="16" rx="2"/><path d="M3 9h18"/><circle cx="9.5" cy="14.5" r="1.8"/><path d="M11.3 14.5h5.2M15 14.5v2"/>');
const VAULT = icon('<rect x="3" y="3" width="18" height="16" rx="2"/><circle cx="12" cy="11" r="3.5"/><path d="M12 7.5v-1M12 15.5v-1M15.5 11h1M7.5 11h1M6 19v2M18 19v2"/>');

export async function plugins(shared) {
  const names = ["application", "apputils", "coreutils", "launcher", "notebook", "services", "statusbar", "ui-components"];
  const modules = await Promise.all(names.map((name) => shared(`@jupyterlab/${name}`)));
  const jupyter = Object.assign({}, ...modules, await shared("@lumino/widgets"));
  return [pages(jupyter), status(jupyter)];
}

/** The commands, the panel and the Launcher's cards. */
function pages({ ILauncher, ICommandPalette, ILayoutRestorer, IFrame, LabIcon, MainAreaWidget, URLExt, Widget, WidgetTracker }) {
  return {
    id: "gitops-secrets-lab:pages",
    description: "The application's page and Vault's interface.",
    autoStart: true,
    optional: [ILauncher, ICommandPalette, ILayoutRestorer],
    activate: (app, launcher, palette, restorer) => {
      const at = (door) => URLExt.join(app.serviceManager.serverSettings.baseUrl, "labkit", door, "/");
      const tracker = new WidgetTracker({ namespace: "labkit" });
      const pageIcon = new LabIcon({ name: "labkit:page", svgstr: PAGE });
      const vaultIcon = new LabIcon({ name: "labkit:vault", svgstr: VAULT });
      let panel = null;

      app.commands.addCommand("labkit:app", {
        label: "Application's page",
        caption: "The page of the lab's application, live, beside the notebook",
        icon: pageIcon,
        execute: () => {
          if (!panel || panel.isDisposed) {
            panel = pagePanel(at("app"), { IFrame, MainAreaWidget, Widget });
            panel.title.icon = pageIcon;
            void tracker.add(panel);
          }
          if (!panel.isAttached) app.shell.add(panel, "main", { mode: "split-right" });
          app.shell.activateById(panel.id);
        },
      });
      app.commands.addCommand("labkit:vault", {
        label: "Vault's interface",
        caption: "Vault's own pages, in a browser tab. `bao token create -ttl=1h -field=token` in a terminal prints a token to sign in with",
        icon: vaultIcon,
        execute: () => { window.open(at("vault"), "_blank", "noopener"); },
      });
      for (const [rank, command] of ["labkit:app", "labkit:vault"].entries()) {
        launcher?.add({ command, category: "Other", rank: 0.3 + rank / 10 }); // after the terminal; a category of its own would be last
        palette?.addItem({ command, category: CATEGORY });
      }
      void restorer?.restore(tracker, { command: "labkit:app", name: () => "app" });
    },
  };
}

function pagePanel(url, { IFrame, MainAreaWidget, Widget }) {
  const content = new IFrame();
  const panel = new MainAreaWidget({ content });
  panel.id = "labkit-app";
  panel.title.label = "Application's page";
  panel.title.closable = true;
  const frame = content.node.querySelector("iframe");
  frame.title = "The application's page, live";
  frame.removeAttribute("sandbox"); // of the same origin with scripts it would keep nothing in
  content.url = url;
  const link = document.createElement("a");
  Object.assign(link, { href: url, target: "_blank", rel: "noopener", textContent: "Open in a browser tab" });
  link.style.cssText = "padding: 0 6px; align-self: center; color: var(--jp-content-link-color, inherit);";
  panel.toolbar.addItem("open", new Widget({ node: link }));
  followTheme(frame);
  const end = whileSeen(content.node, (seen) => { content.url = seen ? url : "about:blank"; });
  panel.disposed.connect(end);
  return panel;
}

/** The page's own light or dark look follows the frame's color-scheme. */
function followTheme(frame) {
  const set = () => { frame.style.colorScheme = document.body.dataset.jpThemeLight === "false" ? "dark" : "light"; };
  new MutationObserver(set).observe(document.body, { attributeFilter: ["data-jp-theme-light"] });
  set();
}

/** Tell `change` when the node has been out of sight for a while, and when it is seen again. */
function whileSeen(node, change) {
  let seen = true;
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

/** The lab in the status bar. */
function status({ Dialog, IStatusBar, NotebookActions, ServerConnection, URLExt, Widget, showDialog }) {
  return {
    id: "gitops-secrets-lab:status",
    description: "How the lab is, in the status bar.",
    autoStart: true,
    optional: [IStatusBar],
    activate: (app, bar) => {
      if (!bar) return;
      const settings = app.serviceManager.serverSettings;
      const address = URLExt.join(settings.baseUrl, "labkit/api/status");
      const item = statusItem({ Widget });
      let found = null;
      let timer = 0;

      const look = async () => {
        clearTimeout(timer);
        if (!document.hidden) {
          try {
            const answer = await ServerConnection.makeRequest(address, { cache: "no-store" }, settings);
            found = answer.ok ? await answer.json() : null;
          } catch {
            found = null; // Jupyter's server is away, which JupyterLab says itself
          }
          item.show_status(found);
        }
        clearTimeout(timer);
        timer = setTimeout(look, EVERY);
      };
      document.addEventListener("visibilitychange", () => { if (!document.hidden) void look(); });
      NotebookActions.executed.connect(() => { clearTimeout(timer); timer = setTimeout(look, SOON); });
      item.button.addEventListener("click", async () => {
        await look();
        const buttons = [Dialog.cancelButton({ label: "Close" })];
        if (found?.running) buttons.push(Dialog.okButton({ label: "Application's page" }));
        const body = new Widget({ node: lines(explained(found)) });
        const { button } = await showDialog({ title: "The lab", body, buttons, defaultButton: 0 });
        if (button.accept) void app.commands.execute("labkit:app");
      });
      bar.registerStatusItem("labkit:status", { item, align: "left", rank: 50 });
      void look();
    },
  };
}

function statusItem({ Widget }) {
  const item = new Widget();
  const button = document.createElement("button");
  const mark = document.createElement("span");
  const text = document.createElement("span");
  item.addClass("jp-StatusBar-TextItem");
  button.style.cssText = "all: unset; cursor: pointer; font: inherit; color: inherit; white-space: nowrap;";
  button.addEventListener("focus", () => { button.style.outline = button.matches(":focus-visible") ? "2px solid currentColor" : ""; });
  button.addEventListener("blur", () => { button.style.outline = ""; });
  mark.setAttribute("aria-hidden", "true");
  text.setAttribute("role", "status"); // changes are announced
  button.append(mark, text);
  item.node.append(button);
  item.button = button;
  item.show_status = (found) => {
    const words = inShort(found);
    if (text.textContent === words) return;
    mark.textContent = found?.ready ? "● " : found?.running ? "◐ " : "○ ";
    text.textContent = words;
    button.title = explained(found).join("\n");
  };
  return item;
}

export function inShort(found) {
  if (!found) return "Lab: unknown";
  if (!found.running) return "Lab: down";
  const lesson = found.lesson === null ? "" : `, lesson ${String(found.lesson).padStart(2, "0")}`;
  return `Lab: ${found.ready ? "ready" : "not ready"}${lesson}`;
}

export function explained(found) {
  if (!found) return ["Jupyter's server does not say how the lab is."];
  const name = found.name === "lab" ? "The lab" : `The lab ${found.name}`;
  const said = [`${name} is ${found.ready ? "ready" : found.running ? "running, and not ready" : "down"}.`];
  if (found.running) {
    said.push(found.lesson === null ? "It is in no lesson." : `It is in lesson ${String(found.lesson).padStart(2, "0")}.`);
    said.push(`Vault: ${found.vault ?? "does not answer"}. The application: ${found.app ? "deployed" : "not there"}.`);
    said.push(`Secrets reach files in sync mode ${found.sync}.`);
  }
  if (found.problem) said.push(found.problem);
  return said;
}

function lines(texts) {
  const node = document.createElement("div");
  for (const text of texts) {
    const line = document.createElement("p");
    line.textContent = text;
    line.style.margin = "0 0 0.5em";
    node.append(line);
  }
  return node;
}
