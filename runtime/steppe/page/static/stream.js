// The live stream: server-sent events, read by fetch because EventSource sends no keys.
"use strict";

(function () {
  const SILENT_MS = 20000;
  const PAUSES_MS = [500, 1000, 2000, 5000, 10000];

  // Yields the data of each event of a body.
  async function* events(body, onBytes) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      onBytes();
      rest += value;
      const parts = rest.split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const line = part.split("\n").find((each) => each.startsWith("data:"));
        if (line) yield JSON.parse(line.slice(5));
      }
    }
  }

  async function readOnce(onView) {
    const control = new AbortController();
    let timer = setTimeout(() => control.abort(), SILENT_MS);
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => control.abort(), SILENT_MS);
    };
    try {
      const answer = await steppe.call("GET", "/steppe/v1/live", undefined, control.signal);
      if (answer.status === 401 || answer.status === 403) return "denied";
      if (!answer.ok) return "lost";
      for await (const view of events(answer.body, heard)) onView(view);
      return "ended";
    } catch {
      return "lost"; // the gateway is away, or silent
    } finally {
      clearTimeout(timer);
      control.abort();
    }
  }

  // Follows the stream for ever; returns only when the key is refused.
  steppe.follow = async function (onView, onLost) {
    let failures = 0;
    for (;;) {
      const seen = (view) => {
        failures = 0;
        onView(view);
      };
      if ((await readOnce(seen)) === "denied") return;
      onLost();
      const pause = PAUSES_MS[Math.min(failures++, PAUSES_MS.length - 1)];
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  };
})();
