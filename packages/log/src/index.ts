export { errorText, faultText } from './error-text.ts';
export { createLog, type Fields, type Level, type Log, type LogOptions, SILENT_LOG } from './log.ts';
