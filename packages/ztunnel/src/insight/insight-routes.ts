// `/edges`, `/findings` and `/records` of the admin endpoint.
import { readRecordFilter } from '@ambit/insight';
import type { AdminRoute } from '../admin/admin-routes.ts';
import { json, text } from '../admin/reply.ts';
import type { InsightDesk } from './insight-desk.ts';

const READ = ['GET', 'HEAD'];

/** @param flush has all that workers know by now arrive first */
export function insightRoutes(desk: InsightDesk, flush: () => Promise<unknown>): ReadonlyMap<string, AdminRoute> {
  return new Map<string, AdminRoute>([
    [
      '/edges',
      {
        methods: READ,
        isHeavy: true,
        answer: async () => {
          await flush();
          return json(desk.edges());
        },
      },
    ],
    ['/findings', { methods: READ, answer: () => json(desk.findings()) }],
    [
      '/records',
      {
        methods: ['GET'],
        answer: (query, signal) => {
          const reading = readRecordFilter(query);
          if (reading.kind === 'invalid') return text(400, `${reading.message}\n`);
          const body = desk.watch(reading.filter, signal);
          if (body === undefined) return text(503, 'too many watch already\n');
          return { status: 200, type: 'application/x-ndjson', body, isLive: true };
        },
      },
    ],
  ]);
}
