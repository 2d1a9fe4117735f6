// Where a field of an object is, for those that kept no more than the object's own place (the syntax trees of a mesh's
// files would be many times the mesh). Reads again only the one document that the object is in.
import { isRawObject } from './fields.ts';
import { parsePath } from './read-objects.ts';
import type { Place } from './types.ts';
import { cutDocuments, readDocument, type Slice, type TextDocument } from './yaml-text.ts';

/** Parsing more than this (a long `kind: List`) would hold everybody up for a column number. */
const MAX_DOCUMENT_LENGTH = 128 << 10;

/** The documents of a text, cut but not parsed. */
export type CutText = readonly Slice[];

export function cutText(text: string): CutText {
  return [...cutDocuments(text)];
}

/**
 * The field `path` of the object at `place`, or the nearest parent that exists; the object's place when its document is
 * too long to look into.
 * @param cut of the same text that the place was found in
 */
export function findField(cut: CutText, place: Place, path: string): Place {
  const slice = cut.findLast(({ line }) => line <= place.line);
  if (slice === undefined || slice.text.length > MAX_DOCUMENT_LENGTH) return place;
  const document = readDocument(slice);
  if (document.kind === 'error') return place;
  const { line, column } = document.locate([...baseOf(document, place), ...parsePath(path)]);
  return { file: place.file, line, column };
}

/** Steps from the document to the object: none, or those of an item of a list. */
function baseOf(document: Extract<TextDocument, { kind: 'value' }>, place: Place): readonly (string | number)[] {
  const items = isRawObject(document.value) ? document.value['items'] : undefined;
  if (!Array.isArray(items)) return [];
  for (const index of items.keys()) {
    const at = document.locate(['items', index]);
    if (at.line === place.line && at.column === place.column) return ['items', index];
  }
  return [];
}
