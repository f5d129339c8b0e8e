// A program for bundlers.
import * as fdsplice from 'fdsplice';
import { exchange } from './exchange.cjs';

void exchange(fdsplice);
