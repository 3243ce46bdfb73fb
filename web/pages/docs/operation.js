// One operation: who may, what it takes, what it answers, and the request to paste.

import { make, prose, sample, words } from "./make.js";
import { brief, resolved, tree } from "./schema.js";

const PLACES = { path: "In the path", query: "In the query", header: "Headers" };

/** Who may ask, in words. */
export function who(operation) {
  const asked = operation.security ?? [];
  if (!asked.length) return "Anybody; a token is not looked at.";
  if (asked.some((one) => Object.keys(one).length === 0)) return "Anybody; with a token also what is yours.";
  return asked[0].bearer?.includes("admin") ? "Admins." : "With a token.";
}

/** Everything that may be searched for. */
export function searched(document, operation) {
  const parameters = (operation.parameters ?? []).map((one) => resolved(document, one));
  const answers = Object.entries(operation.responses).map(([status, one]) => `${status} ${resolved(document, one).description}`);
  return [operation.method, operation.path, operation.summary, operation.description, operation.tags?.[0],
    ...parameters.map((one) => `${one.name} ${one.description ?? ""}`), ...answers].join(" ").toLowerCase();
}

/** The section of an operation. */
export function section(document, operation) {
  const heading = make("h3", {},
    make("span", { class: `method ${operation.method}` }, operation.method.toUpperCase()),
    make("span", { class: "path" }, operation.path));
  return make("section", { class: "operation", id: operation.operationId },
    heading,
    make("p", {}, make("a", { href: `#${operation.operationId}` }, operation.summary)),
    ...(operation.description ? prose(operation.description) : []),
    make("p", { class: "who" }, who(operation)),
    ...parameters(document, operation),
    ...body(document, operation),
    make("h4", {}, "Answers"),
    ...Object.entries(operation.responses).map(([status, one]) => answer(document, status, resolved(document, one))),
    ...samples(operation));
}

function parameters(document, operation) {
  const all = (operation.parameters ?? []).map((one) => resolved(document, one));
  return Object.entries(PLACES).flatMap(([place, title]) => {
    const found = all.filter((one) => one.in === place);
    if (!found.length) return [];
    return [make("h4", {}, title), make("dl", {}, ...found.flatMap((one) => [
      make("dt", {}, make("code", {}, one.name), make("span", { class: "type" }, brief(document, one.schema)),
        one.required ? make("span", { class: "must" }, "required") : null),
      one.description ? make("dd", {}, ...words(one.description)) : null,
    ].filter(Boolean)))];
  });
}

function body(document, operation) {
  if (!operation.requestBody) return [];
  const content = Object.entries(operation.requestBody.content);
  const [, { schema, example }] = content[0];
  return [
    make("h4", {}, `Body: ${content.map(([type]) => type).join(", ")}`),
    tree(document, schema),
    example === undefined ? null : sample(JSON.stringify(example, null, 2)),
  ].filter(Boolean);
}

function answer(document, status, found) {
  const details = make("details", {}, make("summary", {}, make("b", {}, status), " ", ...words(found.description.split("\n")[0].replace(/^- /, ""))));
  details.addEventListener("toggle", () => {
    if (details.dataset.full || !details.open) return;
    details.dataset.full = "yes";
    details.append(...prose(found.description));
    const names = Object.keys(found.headers ?? {});
    if (names.length) details.append(make("p", { class: "who" }, "Headers: ", ...words(names.map((name) => `\`${name}\``).join(", "))));
    for (const [type, { schema, example }] of Object.entries(found.content ?? {})) {
      details.append(make("h4", {}, type), tree(document, schema));
      if (example !== undefined) details.append(sample(JSON.stringify(example, null, 2)));
    }
  });
  return details;
}

function samples(operation) {
  return (operation["x-codeSamples"] ?? []).flatMap((one) => [make("h4", {}, one.label), sample(one.source)]);
}
