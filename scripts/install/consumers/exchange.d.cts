/** The types of exchange.cjs, for programs in TypeScript. */
export declare function exchange(module: object, more?: object): Promise<object>;
