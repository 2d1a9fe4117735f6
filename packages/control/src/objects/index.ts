// What the rest of the control plane uses of the object reader.
export { type ObjectProblem, type ReadResult, readObject, type TypeHint } from './read-object.ts';
export { MAX_FILE_BYTES, type PlacedObject, type ReadObjects, readObjects } from './read-objects.ts';
export { type CutText, cutText, findField } from './find-field.ts';
export { duplicate } from './read-objects.ts';
