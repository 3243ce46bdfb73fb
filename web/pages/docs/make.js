// Elements, with text as text: nothing of the document is ever taken for markup.

/** An element with properties, and with what is in it: elements, or text. */
export function make(name, properties, ...inside) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties ?? {})) {
    if (key === "class") element.className = value;
    else element.setAttribute(key, value);
  }
  element.append(...inside.filter((one) => one !== null && one !== undefined && one !== ""));
  return element;
}

/** What stands between backticks as code, `[x](y)` not at all: our sentences have no more. */
export function words(text) {
  return text.split(/(`[^`]+`)/).map((part) => (part.startsWith("`") && part.length > 2 ? make("code", {}, part.slice(1, -1)) : part));
}

/** Paragraphs, and lists of lines that begin with a dash. */
export function prose(text) {
  return text.trim().split(/\n{2,}|\n(?=- )/).map((part) => {
    const item = part.startsWith("- ");
    const shown = words((item ? part.slice(2) : part).replace(/\s*\n\s*/g, " "));
    return make("p", item ? { class: "item" } : {}, ...(item ? ["• ", ...shown] : shown));
  });
}

/** Text to be copied. */
export function sample(text) {
  const button = make("button", { type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const range = document.createRange();
      range.selectNodeContents(code);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      button.textContent = "Ctrl+C";
    }
  });
  const code = make("code", {}, text);
  return make("div", { class: "sample" }, make("pre", {}, code), button);
}
