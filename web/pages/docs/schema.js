// A schema as a tree that is opened level by level; a reference is followed when it is opened.

import { make, words } from "./make.js";

/** What a reference within the document refers to. */
export function resolved(document, schema) {
  let found = schema;
  while (found && found.$ref) {
    found = found.$ref.split("/").slice(1).reduce((at, name) => at?.[name.replaceAll("~1", "/").replaceAll("~0", "~")], document);
  }
  return found ?? {};
}

/** A schema in a few words: `string (uuid), 1–64, null`. */
export function brief(document, schema) {
  const meant = resolved(document, schema);
  if (meant.const !== undefined) return JSON.stringify(meant.const);
  if (meant.enum) return meant.enum.length > 8 ? `one of ${meant.enum.length}` : meant.enum.map((one) => JSON.stringify(one)).join(" | ");
  if (meant.anyOf) return meant.anyOf.map((one) => brief(document, one)).join(" | ");
  if (meant.allOf) return brief(document, meant.allOf[0]);
  let text = [meant.type ?? "any"].flat().join(" | ");
  if (meant.type === "array") text = `[ ${brief(document, meant.items ?? {})} ]`;
  if (meant.format) text += ` (${meant.format})`;
  const low = meant.minLength ?? meant.minimum ?? meant.minItems;
  const high = meant.maxLength ?? meant.maximum ?? meant.maxItems ?? meant.maxProperties;
  if (low !== undefined || high !== undefined) text += `, ${low ?? 0}–${high ?? "…"}`;
  if (meant.default !== undefined && meant.default !== null) text += `, else ${JSON.stringify(meant.default)}`;
  return text;
}

/** The members of a schema as a list; empty for what has none. */
export function tree(document, schema, level = 0) {
  const meant = resolved(document, schema);
  if (meant.allOf) return make("div", {}, ...meant.allOf.map((one) => tree(document, one, level)));
  if (meant.anyOf) return make("div", {}, ...meant.anyOf.map((one) => tree(document, one, level)));
  if (meant.type === "array") return tree(document, meant.items ?? {}, level);
  const members = Object.entries(meant.properties ?? {});
  const list = make("ul", { class: "schema" });
  for (const [name, inner] of members) {
    const its = resolved(document, inner);
    const head = [
      make("code", {}, name),
      make("span", { class: "type" }, brief(document, inner)),
      (meant.required ?? []).includes(name) ? make("span", { class: "must" }, "always there") : null,
    ];
    const says = its.description ? make("div", { class: "who" }, ...words(its.description.split("\n")[0])) : null;
    const more = nested(document, inner);
    if (!more) {
      list.append(make("li", {}, ...head, says));
      continue;
    }
    const details = make("details", level < 1 ? { open: "" } : {}, make("summary", {}, ...head), says);
    const fill = () => {
      if (!details.dataset.full && details.open) {
        details.dataset.full = "yes";
        details.append(tree(document, inner, level + 1));
      }
    };
    details.addEventListener("toggle", fill);
    fill();
    list.append(make("li", {}, details));
  }
  return list;
}

function nested(document, schema) {
  const meant = resolved(document, schema);
  if (meant.properties) return true;
  if (meant.type === "array") return nested(document, meant.items ?? {});
  return (meant.anyOf ?? meant.allOf ?? []).some((one) => nested(document, one));
}
