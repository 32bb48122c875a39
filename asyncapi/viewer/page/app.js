// Fetches the document and hands it to the component. What this script writes itself it
// writes as text, never as HTML.
"use strict";

(() => {
  const message = document.getElementById("message");
  const place = document.getElementById("document");

  function fail(title, reason) {
    const heading = document.createElement("h1");
    heading.textContent = title;
    const text = document.createElement("pre");
    text.textContent = reason;
    message.setAttribute("role", "alert");
    message.replaceChildren(heading, text);
  }

  // A mistake in the component, or in this script: nothing else would tell.
  addEventListener("error", (event) => fail("The page has failed", event.message));
  addEventListener("unhandledrejection", (event) => fail("The page has failed", String(event.reason)));

  // The references that lead out of the document.
  function* references(value) {
    if (value === null || typeof value !== "object") {
      return;
    }
    if (typeof value.$ref === "string" && !value.$ref.startsWith("#")) {
      yield value.$ref;
    }
    for (const inner of Object.values(value)) {
      yield* references(inner);
    }
  }

  async function load() {
    let response, text;
    try {
      response = await fetch("asyncapi.json", { cache: "no-cache" });
      text = await response.text();
    } catch (error) {
      fail("The document could not be fetched", `Is the server still running? ${error.message}`);
      return;
    }
    if (!response.ok) {
      fail("The document could not be loaded", text || `The server answered ${response.status}.`);
      return;
    }
    let parsed;
    try {
      parsed = JSON.parse(text);
    } catch (error) {
      fail("The document is not JSON", error.message);
      return;
    }
    if (typeof parsed?.asyncapi !== "string") {
      fail("This is no AsyncAPI document", "It has no field asyncapi with its version.");
      return;
    }
    show(parsed, text);
  }

  function show(parsed, text) {
    if (typeof AsyncApiStandalone === "undefined") {
      fail("The page has failed", "The component that shows the document did not start.");
      return;
    }
    const others = [...new Set(references(parsed))];
    // The component parses on its own time, and says itself what is wrong with a document.
    new MutationObserver((_, observer) => {
      if (place.querySelector(".aui-root")) {
        observer.disconnect();
        message.replaceChildren();
        if (others.length > 0) {
          fail("The document refers to others", `This page follows no reference out of the document:\n${others.join("\n")}`);
        }
      }
    }).observe(place, { childList: true, subtree: true });
    if (typeof parsed.info?.title === "string") {
      document.title = `${parsed.info.title} – AsyncAPI`;
    }
    const config = { show: { sidebar: true }, expand: { messageExamples: true } };
    AsyncApiStandalone.render({ schema: text, config }, place);
  }

  message.textContent = "Loading the document …";
  load();
})();
