// Entry of the worker that reads large texts: see read-texts.ts. Ends by itself after the last text.
import { parentPort, workerData } from 'node:worker_threads';
import { type FileText, readText, type WorkerMessage } from './read-texts.ts';

const OBJECTS_A_MESSAGE = 500;

const post = (message: WorkerMessage): void => parentPort?.postMessage(message);

// What readTexts gave it.
for (const text of workerData as readonly FileText[]) {
  const { objects, diagnostics } = readText(text);
  for (let at = 0; at < objects.length; at += OBJECTS_A_MESSAGE) {
    post({ kind: 'objects', objects: objects.slice(at, at + OBJECTS_A_MESSAGE) });
  }
  post({ kind: 'end', diagnostics });
}
