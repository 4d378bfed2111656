throw new Error("from a script");
