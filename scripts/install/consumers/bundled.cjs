// A program for bundlers that take CommonJS.
const fdsplice = require('fdsplice');
const { exchange } = require('./exchange.cjs');

void exchange(fdsplice);
