// What JupyterLab loads of a prebuilt extension: a container with `init` and `get`, as
// webpack's module federation makes them. This one is written by hand, so there is nothing
// to build: it hands JupyterLab's own modules to plugins.js.
"use strict";
(() => {
  const NAME = "gitops-secrets-lab";
  const here = document.currentScript.src;
  let scope = {};

  /** One of the modules that JupyterLab shares, such as "@jupyterlab/launcher". */
  const shared = async (name) => {
    const versions = Object.values(scope[name] ?? {});
    const entry = versions.find((each) => each.loaded) ?? versions[0];
    if (!entry) throw new Error(`JupyterLab does not share ${name}`);
    return (await entry.get())();
  };

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB[NAME] = {
    init: (jupyterlab) => { scope = jupyterlab; },
    get: async () => {
      const { plugins } = await import(new URL("plugins.js", here).href);
      const made = await plugins(shared);
      return () => ({ __esModule: true, default: made });
    },
  };
})();
