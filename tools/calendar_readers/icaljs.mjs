// Copyright (c) Tidegate maintainers
// GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
//
// What ical.js, Mozilla's reader, finds in a calendar. Reads {text, zones, start, end} from standard input, prints [[start, end], ...] or {error}.

import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { join } from "node:path";

const { default: ICAL } = await import(join(process.argv[2], "node_modules/ical.js/dist/ical.js"));
const given = JSON.parse(readFileSync(0, "utf8"));

function told(time) {
  if (time.isDate || time.zone === ICAL.Timezone.localTimezone) return time.toString();
  return time.convertToZone(ICAL.Timezone.utcTimezone).toString();
}

function occurrences(calendar) {
  for (const zone of calendar.getAllSubcomponents("vtimezone")) ICAL.TimezoneService.register(zone);
  const events = calendar.getAllSubcomponents("vevent");
  const plain = events.filter((event) => !event.hasProperty("recurrence-id"));
  const masters = new Set(plain.map((event) => event.getFirstPropertyValue("uid")));
  const alone = events.filter((event) => event.hasProperty("recurrence-id") && !masters.has(event.getFirstPropertyValue("uid")));
  const found = [];
  for (const component of [...plain, ...alone]) {
    const uid = component.getFirstPropertyValue("uid");
    const changes = events.filter((event) => event.hasProperty("recurrence-id") && event.getFirstPropertyValue("uid") === uid);
    const event = new ICAL.Event(component, { exceptions: component.hasProperty("recurrence-id") ? [] : changes, strictExceptions: true });
    if (!event.isRecurring()) {
      found.push([event.startDate, event.endDate]);
      continue;
    }
    const iterator = event.iterator();
    for (let next = iterator.next(), count = 0; next && count < 20000 && next.toJSDate() < new Date(given.end); next = iterator.next(), count++) {
      const one = event.getOccurrenceDetails(next);
      found.push([one.startDate, one.endDate]);
    }
  }
  return found.map((span) => span.map(told));
}

try {
  for (const text of given.zones) ICAL.TimezoneService.register(new ICAL.Component(ICAL.parse(text)));
  const parsed = ICAL.parse(given.text);
  const calendars = Array.isArray(parsed[0]) ? parsed : [parsed];
  console.log(JSON.stringify(calendars.flatMap((one) => occurrences(new ICAL.Component(one)))));
} catch (error) {
  console.log(JSON.stringify({ error: String(error.message).slice(0, 160) }));
}
