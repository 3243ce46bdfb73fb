// The same in the dress of v2: bare objects, and problem details.

import createClient from "openapi-fetch";
import type { components, paths } from "./generated/v2.js";

declare const process: { argv: string[] };
type Problem = components["schemas"]["Problem"];

function must(what: string, holds: boolean): asserts holds {
  if (!holds) throw new Error(`not so: ${what}`);
}

const client = createClient<paths>({ baseUrl: process.argv[2] ?? "" });
const who = { email: `ts2-${Date.now()}@example.org`, password: "correct horse" };

const registered = await client.POST("/api/v2/auth/register", {
  params: { header: { Prefer: "wait=30" } },
  body: who,
});
must("an account is registered", registered.data !== undefined && "access_token" in registered.data);
const headers = { Authorization: `Bearer ${registered.data.access_token}` };

const made = await client.POST("/api/v2/resources", {
  headers,
  params: { header: { Prefer: "wait=30" } },
  body: { kind: "note", title: "bare" },
});
must("a resource is made", made.data !== undefined && "title" in made.data && made.data.title === "bare");

const listed = await client.GET("/api/v2/resources", { headers, params: { query: { limit: 1 } } });
must("the newest is listed first", listed.data?.data[0]?.id === made.data.id && "next_cursor" in listed.data);

const refused = await client.POST("/api/v2/resources", { headers, body: { kind: "note", title: "" } });
must("a refusal is a problem", refused.error !== undefined && "type" in refused.error);
const problem: Problem = refused.error;
must("that names the field", problem.errors?.[0]?.field === "title" && problem.errors[0].code === "too_short");
console.log("v2 ok");
