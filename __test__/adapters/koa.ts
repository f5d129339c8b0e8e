// koa and koa-send without their published types, which contradict those of a package that they use.
import type { RequestListener, ServerResponse } from 'node:http';
import { createRequire } from 'node:module';

export interface KoaContext {
  path: string;
  res: ServerResponse;
}

export interface KoaApp {
  use(middleware: (context: KoaContext, next: () => Promise<void>) => Promise<unknown>): void;
  on(event: 'error', listener: (error: Error) => void): void;
  callback(): RequestListener;
}

type Send = (context: KoaContext, path: string, options: object) => Promise<unknown>;

const require = createRequire(import.meta.url);
export const Koa = require('koa') as new () => KoaApp;
export const koaSend = require('koa-send') as Send;
