// Keys and calls. Keys live in this tab's session storage and go out in headers only: no address,
// no cookie and no log has them, and no other page can make the browser send them.
"use strict";

(function () {
  const KEY = "steppe-key";
  const ADMIN_KEY = "steppe-admin-key";

  function stored(name) {
    try {
      return sessionStorage.getItem(name) || "";
    } catch {
      return "";
    }
  }

  function headers() {
    const found = {};
    if (stored(KEY)) found["Authorization"] = "Bearer " + stored(KEY);
    if (stored(ADMIN_KEY)) found["X-Steppe-Admin-Key"] = stored(ADMIN_KEY);
    return found;
  }

  steppe.call = function (method, path, body, signal) {
    const options = { method, headers: headers(), cache: "no-store", signal };
    if (body !== undefined) {
      options.body = JSON.stringify(body);
      options.headers["Content-Type"] = "application/json";
    }
    return fetch(path, options);
  };

  steppe.json = async function (method, path, body) {
    const answer = await steppe.call(method, path, body);
    const values = await answer.json();
    if (!answer.ok) throw new Error(values.error ? values.error.message : answer.statusText);
    return values;
  };

  steppe.keep = function (key, adminKey) {
    sessionStorage.setItem(KEY, key.trim());
    sessionStorage.setItem(ADMIN_KEY, adminKey.trim());
  };
  steppe.forget = function () {
    sessionStorage.removeItem(KEY);
    sessionStorage.removeItem(ADMIN_KEY);
  };
  steppe.hasKey = () => stored(KEY) !== "" || stored(ADMIN_KEY) !== "";
})();
