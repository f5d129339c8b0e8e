import { capabilities } from 'fdsplice';

/** Whether the native core runs in this process; `FDSPLICE_ENGINE=stream` does without it. */
export const isNative = capabilities().native;

/** The engine that serves what the core can serve. */
export const engine = isNative ? 'native' : 'stream';
