// A program as a stranger would write it: what the compiler lets through is all that it knows of the API.

import createClient from "openapi-fetch";
import type { components, paths } from "./generated/v1.js";

declare const process: { argv: string[] };
type Code = components["schemas"]["Code"];
type Resource = components["schemas"]["Resource"];

function must(what: string, holds: boolean): asserts holds {
  if (!holds) throw new Error(`not so: ${what}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const who = { email: `ts-${Date.now()}@example.org`, password: "correct horse" };

const registered = await client.POST("/api/v1/auth/register", {
  params: { header: { Prefer: "wait=30" } },
  body: { ...who, name: "Mina" },
});
must("an account is registered", registered.response.status === 201);
const login = await client.POST("/api/v1/auth/login", { params: { header: { Prefer: "wait=30" } }, body: who });
must("it logs in", login.data !== undefined);
const headers = { Authorization: `Bearer ${login.data.data.access_token}` };

const taken = await client.POST("/api/v1/auth/register", { body: who });
must("an address is taken once", taken.error?.error.code === ("EMAIL_TAKEN" satisfies Code));

const made = await client.POST("/api/v1/resources", {
  headers,
  params: { header: { "Idempotency-Key": `v1-${Date.now()}`, Prefer: "wait=30" } },
  body: { kind: "note", title: "from TypeScript", visibility: "public", attributes: { size: 7 } },
});
must("a resource is made", made.response.status === 201 && made.data !== undefined && "title" in made.data.data);
const resource: Resource = made.data.data;
must("its ETag is its version", made.response.headers.get("ETag") === `"${resource.version}"`);

const listed = await client.GET("/api/v1/resources", {
  headers,
  params: { query: { "filter[kind]": "note", "filter[owner_id]": resource.owner_id, sort: "-created_at", limit: 5 } },
});
must("it is listed", listed.data?.data.some((one) => one.id === resource.id) === true);
must("the list ends", listed.data.meta.next_cursor === null);

const many = await client.POST("/api/v1/resources/batch", {
  headers,
  params: { header: { Prefer: "wait=30" } },
  body: { operations: [{ op: "create", resource: { kind: "note", title: "one of many" } }, { op: "delete", id: "0190aaaa-0000-7000-8000-00000000dead" }] },
});
must("each of a batch is done", many.data?.data.map((one) => one.status).join() === "201,404");
const wrong = await client.POST("/api/v1/resources/batch", {
  headers,
  // @ts-expect-error the compiler knows what operations there are
  body: { operations: [{ op: "explode" }] },
});
must("each of a batch is refused by itself", wrong.data?.data.map((one) => one.status).join() === "400");

const refused = await client.POST("/api/v1/resources", { headers, body: { kind: "No Kind", title: "" } });
must("every wrong field is named", refused.error !== undefined && refused.error.error.details !== undefined);
must("by its path", refused.error.error.details.map((one) => one.field).sort().join() === "kind,title");

const stale = await client.PUT("/api/v1/resources/{id}", {
  headers,
  params: { path: { id: resource.id }, header: { "If-Match": '"99"' } },
  body: { kind: "note", title: "too late" },
});
must("an old version is refused", stale.error?.error.code === "STALE_VERSION");

// @ts-expect-error: a title is a text
await client.POST("/api/v1/resources", { headers, body: { kind: "note", title: 5 } });
console.log("v1 ok");
