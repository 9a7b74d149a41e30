// Put before the scripts of Vault's page: what it asks of /v1/ and /ui/ is asked below the
// prefix that this page stands at.
"use strict";
(() => {
  const prefix = document.currentScript.src.replace(/\/door\.js$/, "");
  const moved = (url) => {
    const text = String(url instanceof Request ? url.url : url);
    const path = text.startsWith(location.origin) ? text.slice(location.origin.length) : text;
    return /^\/(v1|ui)\//.test(path) ? prefix + path : url;
  };
  const { fetch, XMLHttpRequest } = window;
  window.fetch = (url, options) => {
    const place = moved(url);
    return fetch(url instanceof Request && place !== url ? new Request(place, url) : place, options);
  };
  const { open } = XMLHttpRequest.prototype;
  XMLHttpRequest.prototype.open = function (method, url, ...rest) {
    return open.call(this, method, moved(url), ...rest);
  };
})();
